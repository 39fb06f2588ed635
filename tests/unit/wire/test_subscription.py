"""The talk about streams, played without a network."""

import itertools

from shmfeed.codecs import Request, get_codec
from shmfeed.errors import BadArgumentError
from shmfeed.wire.subscription import ChangeRefused, Subscribed, Subscription

A, B, C = ((("BTCUSDT", "1m"),), (("ETHUSDT", "1m"),), (("XRPUSDT", "1m"),))


class Batched:
    """A venue that takes one request for each stream, paced by `control_interval`."""

    control_interval = 1.0

    def __init__(self, in_url=()):
        self._in_url = in_url
        self._ids = map(str, itertools.count(1))

    def subscribe(self, streams):
        return self.change(self._in_url, streams)

    def change(self, old, new):
        if any(symbol == "BAD" for symbol, _ in new):
            raise BadArgumentError("no such stream here")
        changed = [*(set(new) - set(old)), *(set(old) - set(new))]
        return [Request(next(self._ids), repr(stream)) for stream in sorted(changed)]


def begun(streams=A):
    """A subscription that the house venue has acknowledged."""
    subscription = Subscription(get_codec("wealthai"), streams, ack_timeout=10)
    subscription.begin(streams)
    assert '"1"' in subscription.next_frame(0)
    subscription.acknowledge("1")
    assert subscription.take_outcomes() == [Subscribed(streams)]
    return subscription


def test_streams_are_in_force_with_the_acknowledgement():
    subscription = Subscription(get_codec("wealthai"), A, ack_timeout=10)
    subscription.begin(A)
    assert subscription.next_frame(0)
    assert subscription.next_frame(0) is None
    assert not subscription.begun
    subscription.acknowledge("7")  # of something else
    assert not subscription.take_outcomes()
    subscription.acknowledge("1")
    assert subscription.begun
    assert subscription.take_outcomes() == [Subscribed(A)]
    subscription.acknowledge("1")
    assert not subscription.take_outcomes()


def test_an_acknowledgement_without_an_id_is_for_the_oldest_request():
    subscription = Subscription(Batched(), A + B, ack_timeout=10)
    subscription.begin(A + B)
    assert subscription.next_frame(0)
    subscription.acknowledge(None)
    subscription.acknowledge(None)  # nothing has been sent that it could be for
    assert not subscription.begun
    assert subscription.next_frame(1)
    subscription.acknowledge(None)
    assert subscription.take_outcomes() == [Subscribed(A + B)]


def test_streams_of_the_url_are_in_force_with_the_connection():
    subscription = Subscription(Batched(in_url=A), A, ack_timeout=10)
    subscription.begin(A)
    assert subscription.take_outcomes() == [Subscribed(A)]
    assert subscription.next_frame(0) is None


def test_requests_are_paced_and_all_must_be_acknowledged():
    subscription = Subscription(Batched(), A + B + C, ack_timeout=10)
    subscription.begin(A + B + C)
    sent = []
    for tenth in range(30):
        frame = subscription.next_frame(tenth / 10)
        if frame:
            sent.append(tenth)
            assert subscription.due_in(tenth / 10) in (1.0, float("inf"))
    assert sent == [0, 10, 20]
    for number in ("3", "1"):
        subscription.acknowledge(number)
    assert not subscription.begun
    subscription.acknowledge("2")
    assert subscription.take_outcomes() == [Subscribed(A + B + C)]


def test_an_answer_is_overdue_counted_from_the_last_request():
    subscription = Subscription(Batched(), A + B, ack_timeout=10)
    subscription.begin(A + B)
    assert not subscription.overdue(100)  # not asked yet
    subscription.next_frame(100)
    assert not subscription.overdue(150)  # not all is asked
    subscription.next_frame(150)
    assert not subscription.overdue(160)
    assert subscription.overdue(160.1)


def test_the_streams_of_the_connection_refused_leave_nothing():
    subscription = Subscription(get_codec("wealthai"), A, ack_timeout=10)
    subscription.begin(A)
    subscription.next_frame(0)
    assert subscription.concerns("no id of ours")
    assert not subscription.refuse("no")
    assert not subscription.take_outcomes()
    assert subscription.wanted == A


def test_a_change_comes_in_force_when_acknowledged():
    subscription = begun()
    subscription.change(B)
    assert "ETHUSDT" in subscription.next_frame(0)
    assert subscription.in_force == A
    subscription.acknowledge("2")
    assert subscription.in_force == B
    assert subscription.take_outcomes() == [Subscribed(B)]
    assert subscription.next_frame(0) is None


def test_a_change_refused_leaves_what_was():
    subscription = begun()
    subscription.change(B)
    subscription.next_frame(0)
    assert subscription.concerns("2")
    assert not subscription.concerns("1")
    assert subscription.refuse("unknown symbol")
    assert subscription.take_outcomes() == [ChangeRefused("unknown symbol")]
    assert (subscription.in_force, subscription.wanted) == (A, A)
    assert subscription.next_frame(0) is None
    assert not subscription.tangled


def test_a_change_that_asks_for_nothing_new_is_answered_at_once():
    subscription = begun(A + B)
    for same in (A + B, B + A):
        subscription.change(same)
        assert subscription.next_frame(0) is None
        assert subscription.take_outcomes() == [Subscribed(same)]


def test_a_change_that_the_codec_cannot_put_is_refused():
    subscription = Subscription(Batched(), A, ack_timeout=10)
    subscription.begin(A)
    subscription.next_frame(0)
    subscription.acknowledge(None)
    subscription.take_outcomes()
    subscription.change((("BAD", "1m"),))
    assert subscription.next_frame(5) is None
    assert subscription.take_outcomes() == [ChangeRefused("no such stream here")]
    assert subscription.wanted == A


def test_a_later_change_supersedes_and_is_asked_when_the_first_is_answered():
    subscription = begun()
    subscription.change(B)
    assert "ETHUSDT" in subscription.next_frame(0)
    subscription.change(C)
    [outcome] = subscription.take_outcomes()
    assert outcome.message.startswith("superseded")
    assert subscription.next_frame(0) is None  # one question at a time
    subscription.acknowledge("2")
    assert subscription.take_outcomes() == [Subscribed(B)]  # that is what is served
    assert "XRPUSDT" in subscription.next_frame(0)
    subscription.acknowledge("3")
    assert subscription.take_outcomes() == [Subscribed(C)]


def test_a_superseded_change_that_is_refused_is_not_told_twice():
    subscription = begun()
    subscription.change(B)
    subscription.next_frame(0)
    subscription.change(C)
    subscription.take_outcomes()
    assert subscription.refuse("no")
    assert not subscription.take_outcomes()
    assert "XRPUSDT" in subscription.next_frame(0)
    assert subscription.refuse("no again")
    assert subscription.take_outcomes() == [ChangeRefused("no again")]
    assert subscription.in_force == A


def test_a_change_taken_back_before_it_was_asked_asks_nothing():
    subscription = begun()
    subscription.change(B)
    subscription.change(A)
    assert subscription.next_frame(0) is None
    told = subscription.take_outcomes()
    assert told == [ChangeRefused("superseded by a later change"), Subscribed(A)]


def test_a_change_refused_after_part_of_it_was_sent_needs_a_new_connection():
    subscription = Subscription(Batched(in_url=A), A, ack_timeout=10)
    subscription.begin(A)
    subscription.change(B)
    assert subscription.next_frame(0)
    assert subscription.next_frame(1)
    assert subscription.refuse("no")
    assert subscription.tangled
    subscription.end()
    assert (subscription.wanted, subscription.tangled) == (A, False)


def test_a_change_while_there_is_no_connection_is_for_the_next_one():
    subscription = begun()
    subscription.end()
    subscription.change(B)
    assert subscription.next_frame(0) is None
    subscription.begin(subscription.wanted)
    assert "ETHUSDT" in subscription.next_frame(0)
    subscription.acknowledge(None)
    assert subscription.take_outcomes() == [Subscribed(B)]


def test_a_change_whose_connection_is_refused_for_it_goes_back():
    subscription = begun()
    subscription.end()
    subscription.change(B)
    subscription.begin(B)
    subscription.next_frame(0)
    assert subscription.refuse("no")
    assert subscription.take_outcomes() == [ChangeRefused("no")]
    assert subscription.wanted == A
    subscription.end()
    subscription.begin(A)
    subscription.next_frame(0)
    assert not subscription.refuse("no")  # these had been served: a failure


def test_a_change_open_when_the_connection_is_lost_is_asked_of_the_next():
    subscription = begun()
    subscription.change(B)
    subscription.next_frame(0)
    subscription.end()
    assert not subscription.take_outcomes()
    subscription.begin(subscription.wanted)
    subscription.next_frame(0)
    subscription.acknowledge(None)
    assert subscription.take_outcomes() == [Subscribed(B)]


def test_a_change_while_the_first_answer_is_awaited_comes_after_it():
    subscription = Subscription(get_codec("wealthai"), A, ack_timeout=10)
    subscription.begin(A)
    subscription.next_frame(0)
    subscription.change(B)
    subscription.acknowledge(None)
    assert subscription.take_outcomes() == [Subscribed(A)]
    assert "ETHUSDT" in subscription.next_frame(0)
