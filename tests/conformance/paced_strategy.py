"""A strategy that runs beside another one, and says how far the run has come."""

from datetime import UTC


def initialize(context):
    print("initialized", flush=True)


def handle_data(context, data):
    moment = context.current_dt.replace(tzinfo=UTC).timestamp() * 1000
    print(f"handled {round(moment)}", flush=True)
