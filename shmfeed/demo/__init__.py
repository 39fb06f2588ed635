"""The demo: a venue, a feeder, and strategies that check every value they read.

This module imports nothing, so that a strategy process loads `demo.strategy` alone.
"""
