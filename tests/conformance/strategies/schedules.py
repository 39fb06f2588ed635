"""Functions that run daily, weekly and monthly, each at the first close at its time."""

from wealthdata import *


def initialize(context):
    run_weekly(weekly, 1, time="open")
    run_monthly(monthly, 1, time="open")
    run_monthly(last_day, -1, time="close")


def weekly(context):
    decide(["weekly", f"{context.current_dt:%a %d}"])


def monthly(context):
    decide(["monthly", f"{context.current_dt:%d %b}"])


def last_day(context):
    decide(["last day", f"{context.current_dt:%d %b}"])
