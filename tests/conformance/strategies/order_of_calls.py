"""The order in which a strategy's functions are called, and its time in each."""

from wealthdata import *


def initialize(context):
    run_daily(morning, time="08:00")
    run_daily(each, time="every_bar")
    run_daily(first, time="open")


def note(name, context, *more):
    decide([name, f"{context.current_dt:%d %H:%M}", *more])


def before_trading_start(context):
    note("before_trading_start", context)


def morning(context):
    note("morning", context)


def first(context):
    note("first", context)


def each(context):
    note("each", context)


def handle_bar(context, bar):
    note("handle_bar", context, bar.symbol, bar.close)


def handle_data(context, data):
    note("handle_data", context, *data)
