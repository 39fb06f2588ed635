"""The question which streams a venue serves, played without a network."""

import itertools

from shmfeed.codecs import Request, get_codec
from shmfeed.errors import BadArgumentError
from shmfeed.wire.events import ChangeRefused, Subscribed
from shmfeed.wire.subscription import Refusal, Subscription

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


def changed(streams):
    return Subscribed(streams, ends_change=True)


def begun(streams=A):
    """Return a subscription that a wealthai venue has acknowledged."""
    subscription = Subscription(get_codec("wealthai"), streams, ack_timeout=10)
    assert subscription.begin(streams) is None
    assert '"1"' in subscription.next_frame(0)
    assert subscription.acknowledge("1") == Subscribed(streams)
    return subscription


def batched(streams=A, *, in_url=()):
    return Subscription(Batched(in_url), streams, ack_timeout=10)


def ask(subscription, now=0):
    """Return the frame for a change, which must not have an outcome yet."""
    assert subscription.begin_change() is None
    return subscription.next_frame(now)


def test_streams_are_acknowledged_with_the_answer():
    subscription = Subscription(get_codec("wealthai"), A, ack_timeout=10)
    assert subscription.begin(A) is None
    assert subscription.next_frame(0)
    assert subscription.next_frame(0) is None
    assert not subscription.is_live
    assert subscription.acknowledge("7") is None  # of something else
    assert subscription.acknowledge("1") == Subscribed(A)
    assert subscription.is_live
    assert subscription.acknowledge("1") is None


def test_an_acknowledgement_without_an_id_is_for_the_oldest_request():
    subscription = batched(A + B)
    subscription.begin(A + B)
    assert subscription.next_frame(0)
    assert subscription.acknowledge(None) is None
    assert subscription.acknowledge(None) is None  # no request is unanswered
    assert not subscription.is_live
    assert subscription.next_frame(1)
    assert subscription.acknowledge(None) == Subscribed(A + B)


def test_streams_of_the_url_are_acknowledged_with_the_connection():
    subscription = batched(in_url=A)
    assert subscription.begin(A) == Subscribed(A)
    assert ask(subscription) is None


def test_requests_are_paced_and_all_must_be_acknowledged():
    subscription = batched(A + B + C)
    subscription.begin(A + B + C)
    sent = []
    for tenth in range(30):
        frame = subscription.next_frame(tenth / 10)
        if frame:
            sent.append(tenth)
            assert subscription.due_in(tenth / 10) in (1.0, float("inf"))
    assert sent == [0, 10, 20]
    for number in ("3", "1"):
        assert subscription.acknowledge(number) is None
    assert not subscription.is_live
    assert subscription.acknowledge("2") == Subscribed(A + B + C)


def test_an_answer_is_overdue_counted_from_the_last_request():
    subscription = batched(A + B)
    subscription.begin(A + B)
    assert not subscription.is_overdue(100)  # not asked yet
    subscription.next_frame(100)
    assert not subscription.is_overdue(150)  # not all is asked
    subscription.next_frame(150)
    assert not subscription.is_overdue(160)
    assert subscription.is_overdue(160.1)


def test_refused_streams_of_the_connection_leave_nothing():
    subscription = Subscription(get_codec("wealthai"), A, ack_timeout=10)
    subscription.begin(A)
    subscription.next_frame(0)
    assert subscription.concerns("no id of ours")
    assert subscription.refuse("no") == Refusal(None, "fail")
    assert subscription.wanted == A


def test_a_change_counts_once_acknowledged():
    subscription = begun()
    subscription.change(B)
    assert "ETHUSDT" in ask(subscription)
    assert (subscription.acknowledged, subscription.is_changing) == (A, True)
    assert subscription.acknowledge("2") == changed(B)
    assert (subscription.acknowledged, subscription.is_changing) == (B, False)
    assert ask(subscription) is None


def test_a_refused_change_leaves_the_former_streams():
    subscription = begun()
    subscription.change(B)
    ask(subscription)
    assert subscription.concerns("2")
    assert not subscription.concerns("1")
    refusal = Refusal(ChangeRefused("unknown symbol"), "stay")
    assert subscription.refuse("unknown symbol") == refusal
    assert (subscription.acknowledged, subscription.wanted) == (A, A)
    assert not subscription.is_changing
    assert ask(subscription) is None


def test_a_change_that_asks_for_nothing_new_is_answered_at_once():
    subscription = begun(A + B)
    for same in (A + B, B + A):
        subscription.change(same)
        assert subscription.begin_change() == changed(same)
        assert ask(subscription) is None


def test_a_change_that_the_codec_cannot_request_is_refused():
    subscription = batched()
    subscription.begin(A)
    subscription.next_frame(0)
    subscription.acknowledge(None)
    subscription.change((("BAD", "1m"),))
    assert subscription.begin_change() == ChangeRefused("no such stream here")
    assert subscription.next_frame(5) is None
    assert subscription.wanted == A


def test_a_later_change_is_requested_when_the_first_is_answered():
    subscription = begun()
    subscription.change(B)
    assert "ETHUSDT" in ask(subscription)
    subscription.change(C)
    assert ask(subscription) is None  # one question at a time
    assert subscription.acknowledge("2") == Subscribed(B)  # B is acknowledged
    assert subscription.is_changing
    assert "XRPUSDT" in ask(subscription)
    assert subscription.acknowledge("3") == changed(C)


def test_a_refusal_of_the_first_change_does_not_end_the_later_one():
    subscription = begun()
    subscription.change(B)
    ask(subscription)
    subscription.change(C)
    assert subscription.refuse("no") == Refusal(None, "stay")
    assert "XRPUSDT" in ask(subscription)
    refusal = Refusal(ChangeRefused("no again"), "stay")
    assert subscription.refuse("no again") == refusal
    assert subscription.acknowledged == A


def test_a_change_superseded_before_its_request_sends_nothing():
    subscription = begun()
    subscription.change(B)
    subscription.change(A)
    assert subscription.begin_change() == changed(A)
    assert ask(subscription) is None


def test_a_change_refused_after_part_of_it_was_sent_needs_a_new_connection():
    subscription = batched(in_url=A)
    subscription.begin(A)
    subscription.change(B)
    assert ask(subscription)
    assert subscription.next_frame(1)
    assert subscription.refuse("no") == Refusal(ChangeRefused("no"), "leave")
    subscription.end()
    assert subscription.wanted == A


def test_a_change_while_there_is_no_connection_is_for_the_next_one():
    subscription = begun()
    subscription.end()
    subscription.change(B)
    assert ask(subscription) is None
    subscription.begin(subscription.wanted)
    assert "ETHUSDT" in ask(subscription)
    assert subscription.acknowledge(None) == changed(B)


def test_a_change_whose_connection_is_refused_for_it_is_rolled_back():
    subscription = begun()
    subscription.end()
    subscription.change(B)
    subscription.begin(B)
    subscription.next_frame(0)
    assert subscription.refuse("no") == Refusal(ChangeRefused("no"), "leave")
    assert subscription.wanted == A
    subscription.end()
    subscription.begin(A)
    subscription.next_frame(0)
    # These had been served: a failure.
    assert subscription.refuse("no") == Refusal(None, "fail")


def test_a_change_in_progress_at_the_loss_is_requested_by_the_next_connection():
    subscription = begun()
    subscription.change(B)
    ask(subscription)
    subscription.end()
    assert subscription.is_changing
    subscription.begin(subscription.wanted)
    subscription.next_frame(0)
    assert subscription.acknowledge(None) == changed(B)


def test_a_change_while_the_first_answer_is_awaited_comes_after_it():
    subscription = Subscription(get_codec("wealthai"), A, ack_timeout=10)
    subscription.begin(A)
    subscription.next_frame(0)
    subscription.change(B)
    assert ask(subscription) is None
    assert subscription.acknowledge(None) == Subscribed(A)
    assert "ETHUSDT" in ask(subscription)


def test_a_setting_replaces_the_venues_pace():
    subscription = Subscription(Batched(), A + B, ack_timeout=10, control_interval=3.0)
    subscription.begin(A + B)
    assert subscription.next_frame(0)
    assert subscription.next_frame(2.9) is None
    assert subscription.due_in(2.0) == 1.0
    assert subscription.next_frame(3.0)


class Repeating(Batched):
    """The venue above, which can be asked for acknowledged streams again."""

    def ask_again(self, streams, subscribed):
        return [Request(next(self._ids), f"again {stream}") for stream in streams]


def repeating():
    subscription = Subscription(Repeating(in_url=A), A, ack_timeout=10)
    assert subscription.begin(A) == Subscribed(A)
    assert subscription.ask_again(A)
    assert "again" in subscription.next_frame(0)
    return subscription


def test_streams_asked_for_again_are_acknowledged_as_before():
    subscription = repeating()
    assert subscription.is_repeating
    assert subscription.acknowledge("1") == Subscribed(A)
    assert not subscription.is_repeating


def test_a_refused_repetition_leaves_everything_as_it_was():
    subscription = repeating()
    assert subscription.concerns("1")
    assert subscription.refuse("no") == Refusal(None, "stay")
    assert (subscription.acknowledged, subscription.is_live) == (A, True)


def test_a_change_waits_for_a_repetition_and_no_repetition_for_a_change():
    subscription = repeating()
    subscription.change(B)
    assert subscription.begin_change() is None
    assert not subscription.ask_again(A)
    subscription.acknowledge("1")
    assert subscription.begin_change() is None
    assert subscription.next_frame(1) is not None


def test_a_refusal_of_an_abandoned_request_concerns_nothing():
    subscription = batched(A + B)
    subscription.begin(A + B)
    assert subscription.next_frame(0)
    subscription.narrow(B)
    subscription.begin(B)
    assert subscription.next_frame(1)
    assert not subscription.concerns("1")
    assert subscription.concerns("3")
