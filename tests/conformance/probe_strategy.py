"""A strategy of the suite itself: the runner runs it, and it lets the suite look."""

from conformance import wealthdata_adapter


def handle_data(context, data):
    wealthdata_adapter.look(context.current_dt)
