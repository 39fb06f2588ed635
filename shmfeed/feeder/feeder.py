"""The feeder: one process that owns a venue's socket and writes one feed.

    session --events--> intake --rows--> ring       the main loop, the one writer
    control socket --commands--> main loop          answered when they are done
    beat thread --alive--> header

Whoever observes reads state, counters and the last error out of the segment.
"""

import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from typing import Any, cast

from shmfeed.codecs import get_codec
from shmfeed.control.messages import Request
from shmfeed.control.platform import check_feeder_platform
from shmfeed.control.server import ControlServer
from shmfeed.errors import (
    BadArgumentError,
    FeedLostError,
    FeedNotFoundError,
    SegmentFormatError,
    ShmfeedError,
)
from shmfeed.feeder.commands import Command, Commands
from shmfeed.feeder.heartbeat import Beat
from shmfeed.feeder.intake import Intake
from shmfeed.feeder.subscriptions import Streams, SubscriptionQueue, Subscriptions
from shmfeed.layout import MAX_STREAMS, State
from shmfeed.segment.mapping import open_segment, place
from shmfeed.settings.model import Settings
from shmfeed.wire.session import ChangeRefused, Output, Session, Subscribed
from shmfeed.writer import FeedWriter, create

log = logging.getLogger(__name__)

_OWN_WORDS = (Subscribed, ChangeRefused)
RUN = "run"  # the want of a feeder that somebody runs in the foreground


class Feeder:
    """One feeder, from its construction, which takes the feed, to the end of `run`.

    `manager` and `pid` say who wants the settings' streams. Construction raises what
    `create` raises, and BadArgumentError for streams that the venue cannot have.
    """

    def __init__(self, settings: Settings, manager: str = RUN, pid: int = 0) -> None:
        check_feeder_platform()
        self._settings = settings
        self._codec = get_codec(
            settings.protocol, settings.market_type, settings.csrf_token
        )
        endpoints = self._codec.endpoints(settings.endpoint, settings.port)
        streams = self._checked(settings.streams)
        if not streams:
            raise BadArgumentError(
                "there is nothing to subscribe: give symbols and resolutions; symbols"
                f" are {list(settings.symbols)}, resolutions"
                f" {list(settings.resolutions)}"
            )
        self._wants = Subscriptions()
        self._wants.put(manager, pid or os.getpid(), streams)
        self._shown: tuple[object, ...] = ()
        self._reconnects = self._oversized = 0
        self._lost: FeedLostError | None = None
        self._unlink = False
        self._commands = Commands()
        try:
            self._session = Session(
                self._codec,
                settings,
                endpoints,
                streams,
                wake_fd=self._commands.wake_fd,
            )
            self._writer = take_feed(settings, streams)
        except BaseException:
            self._commands.close()
            raise
        self._changes = SubscriptionQueue(self._wants, self._session, self._admit)
        self._intake = Intake(
            self._writer, settings.close_grace, self._codec.flags_closed
        )
        self._intake.set_streams(streams)

    def _checked(self, streams: Iterable[tuple[str, str]]) -> Streams:
        return tuple(dict.fromkeys(self._codec.stream(*names) for names in streams))

    def _admit(self, union: Streams) -> None:
        if not self._writer.has_capacity_for(union):
            raise BadArgumentError(
                f"feed {self._settings.feed!r} has room for"
                f" {self._writer.geometry.max_streams} streams; {len(union)} are wanted"
                " now, besides those that it carried before: raise max_streams and"
                " restart it"
            )

    def run(self) -> None:
        """Feed until `stop`. Raises FeedLostError if the feed was taken away."""
        socket = place(self._settings.feed).socket
        try:
            with (
                ControlServer(socket, self._commands.ask),
                Beat(self._writer, self._give_up),
            ):
                self._loop()
        finally:
            self._commands.close()
            self._writer.close(unlink=self._unlink)
        if self._lost is not None:
            raise self._lost

    def stop(self, unlink: bool = False) -> None:
        """End `run` soon; with `unlink` the segment goes too. Any thread, or a
        signal's handler."""
        self._unlink = self._unlink or unlink
        self._session.stop()
        self._commands.wake()

    def release(self, manager: str) -> None:
        """Its manager is gone: stop, unless another one wants something. Any thread
        but the main loop's."""
        with suppress(ShmfeedError):  # stopping already
            self._commands.ask(Request(v=1, id=0, op="release", manager=manager))

    def _give_up(self, error: FeedLostError) -> None:
        self._lost = error
        self.stop()

    def _loop(self) -> None:
        try:
            with closing(self._session.batches()) as batches:  # type: ignore[type-var] # a generator
                for outputs in batches:
                    self._show()
                    self._take(outputs)
                    self._intake.tick()
                    self._writer.tick()
                    for command in self._commands.drain():
                        self._obey(command)
        finally:
            self._changes.end()
            self._commands.end()

    def _take(self, outputs: Sequence[Output]) -> None:
        start = 0
        for index, output in enumerate(outputs):
            # The session's own words are rare; the venue's go through in one piece.
            if isinstance(output, _OWN_WORDS):
                self._intake.take(outputs[start:index])  # type: ignore[arg-type] # events
                start = index + 1
                if isinstance(output, Subscribed):
                    self._intake.set_streams(output.streams)
                    self._intake.connected()
                self._changes.settle(output)
        self._intake.take(outputs[start:] if start else outputs)  # type: ignore[arg-type] # events

    def _show(self) -> None:
        session = self._session
        shown = (
            session.state,
            session.endpoint,
            session.last_error,
            session.error_kind,
            session.phase,
        )
        if shown != self._shown:
            self._log_state(session.state)
            lost = self._shown[:1] == ("connected",) and session.state != "connected"
            self._shown = shown
            self._writer.set_state(cast("State", session.state))
            self._writer.note(self._facts())
            if lost:
                self._intake.disconnected()
                self._changes.lost()
        if session.reconnects != self._reconnects:
            self._writer.count("reconnects", session.reconnects - self._reconnects)
            self._reconnects = session.reconnects
        if session.oversized != self._oversized:
            self._writer.count("oversized", session.oversized - self._oversized)
            self._oversized = session.oversized

    def _log_state(self, state: str) -> None:
        if self._shown[:1] == (state,):
            return
        log.info(
            "feed %s: %s, %s; last error: %s",
            self._settings.feed,
            state,
            self._session.endpoint or "no endpoint yet",
            self._session.last_error or "none",
        )

    def _facts(self) -> dict[str, Any]:
        session = self._session
        return {
            "writer": os.getpid(),  # a segment shows a predecessor's words at first
            "endpoint": session.endpoint,
            "protocol": self._settings.protocol,
            "market_type": self._settings.market_type,
            "phase": session.phase,
            "attempts": session.attempts,
            "losses": session.reconnects,
            "error_kind": session.error_kind,
            "last_error": session.last_error or None,
        }

    def _obey(self, command: Command) -> None:
        request = command.request
        try:
            if request.op == "subscribe":
                self._changes.subscribe(command, self._asked(request))
            elif request.op == "release":
                self._release(command)
            elif request.op == "stop":
                command.finish(stopping=True, pid=os.getpid())
                self.stop(request.unlink)
            elif request.op == "start":
                self._retry()
                command.finish()
            else:
                command.finish(
                    pid=os.getpid(),
                    state=self._session.state,
                    wanted=self._wants.alive(),
                )
        except ShmfeedError as error:
            command.fail(error)

    def _asked(self, request: Request) -> Streams:
        symbols, resolutions = request.symbols or (), request.resolutions or ()
        count = len(symbols) * len(resolutions)
        if count > MAX_STREAMS:  # before the loop spends its time on each
            raise BadArgumentError(
                f"symbols x resolutions are {count} streams; a feed has at most"
                f" {MAX_STREAMS}: use several feeds"
            )
        return self._checked((s, r) for s in symbols for r in resolutions)

    def _retry(self) -> None:
        self._session.retry()
        # What failed before is no answer to this try; shown before it is promised.
        self._session.error_kind = ""
        self._show()

    def _release(self, command: Command) -> None:
        self._changes.leave(command.request.manager)
        stopping = not self._wants.alive()
        command.finish(stopping=stopping, pid=os.getpid())
        if stopping:
            self.stop(command.request.unlink)


def take_feed(settings: Settings, streams: Streams) -> FeedWriter:
    """The writer of the settings' feed, with room for these streams.

    What an earlier feeder carried stays where it is, if that is possible. Raises what
    `create` raises.
    """
    sizes = settings.history, settings.guard
    most = settings.capacity_beside(_room_there(settings.feed), len(streams))
    first: dict[str, Any] = {"state": "disconnected", "streams": streams}
    writer = create(settings.feed, *sizes, most, **first)
    if not writer.has_capacity_for(streams):
        # Full of streams that nobody wants any more. A segment of another size takes
        # over what is subscribed.
        for names in set(writer.streams()) - set(streams):
            writer.unsubscribe(*names)
        writer.close()
        most = max(settings.planned_streams, most)
        most += 1 if most < MAX_STREAMS else -1
        writer = create(settings.feed, *sizes, most, **first)
    return writer


def _room_there(feed: str) -> int:
    """For how many streams the feed's segment has room, 0 where there is none."""
    with suppress(FeedNotFoundError, SegmentFormatError):
        return open_segment(place(feed)).geometry.max_streams
    return 0
