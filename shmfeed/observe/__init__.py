"""Observers: processes that read feeds and show them. None of them writes a segment."""
