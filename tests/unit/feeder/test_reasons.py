"""Reasons of a stream's health: the strongest one is published, once."""

from shmfeed.feeder.reasons import Reasons

A = ("A", "1m")


class Marks:
    """Marks that keep each reason that is published."""

    def __init__(self):
        self.said = []

    def explain(self, *reason):
        self.said.append(reason)


def test_the_strongest_reason_is_published():
    marks = Marks()
    reasons, said = Reasons(marks), marks.said
    reasons.put(A, "muted", "m")
    reasons.put(A, "polled", "p")
    reasons.put(A, "warming", "w")  # weaker than what is published
    reasons.put(A, "polled", "p")
    reasons.clear(A, "polled")
    reasons.clear(A, "polled")
    assert reasons.holds(A, "warming")
    assert not reasons.holds(A, "polled")
    reasons.clear(A, "warming")
    reasons.clear(A, "muted")
    assert said == [
        (A, "muted", "m"),
        (A, "polled", "p"),
        (A, "warming", "w"),
        (A, "muted", "m"),
        (A, "", ""),
    ]


def test_a_forgotten_stream_begins_without_a_reason():
    marks = Marks()
    reasons, said = Reasons(marks), marks.said
    reasons.put(A, "closed", "c")
    reasons.forget(A)
    reasons.clear(A, "closed")
    reasons.put(A, "closed", "c")
    assert said == [(A, "closed", "c")] * 2
