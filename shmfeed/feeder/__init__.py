"""The feeder: the process that owns a venue's socket and writes one feed.

`main` is the process and `feeder` its loop. `intake` takes the venue's events to the
rings: `ledger` decides what a message means for the rows of its stream, by the time
that `clock` estimates. `requests` and `subscriptions` are the managers' side, and
`heartbeat` is the thread that shows that the process lives.
"""
