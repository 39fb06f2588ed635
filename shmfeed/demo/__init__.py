"""The demo: a venue, a feeder, and strategies that check every value they read.

Nothing is imported here: a strategy process loads `shmfeed.demo.strategy` alone.
"""
