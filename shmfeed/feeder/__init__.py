"""The feeder process: it receives bars from a venue and writes them to one feed.

`main` is the process and `feeder` its loop. `intake` writes the venue's events to the
rings. `ledger` decides what a message means for the rows of its stream; `clock`
estimates the venue's time. `requests` and `subscriptions` are the managers' side, and
`heartbeat` is the thread that shows that the process lives.
"""
