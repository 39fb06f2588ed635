"""The feeder: one process that owns a venue's socket and writes one feed.

    session --events--> intake --rows--> ring       the main loop, the one writer
    control socket --commands--> main loop          answered when they are done
    beat thread --alive--> header

Whoever observes reads state, counters and the last error out of the segment.
"""

import logging
import os
from collections.abc import Sequence
from typing import Any

from shmfeed.beat import Beat
from shmfeed.catalog import Names
from shmfeed.codecs import get_codec
from shmfeed.commands import Command, Commands
from shmfeed.config import Settings
from shmfeed.control import ControlServer
from shmfeed.errors import (
    BadArgumentError,
    FeedLostError,
    ShmfeedError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
)
from shmfeed.intake import Intake
from shmfeed.segment import place
from shmfeed.session import ChangeRefused, Output, Session, Subscribed
from shmfeed.wants import Wants
from shmfeed.writer import FeedWriter, create

log = logging.getLogger(__name__)

RUN = "run"  # the want of a feeder that somebody runs in the foreground
Streams = tuple[Names, ...]


class Feeder:
    """One feeder, from its construction, which takes the feed, to the end of `run`.

    `manager` and `pid` say who wants the settings' streams. Construction raises what
    `create` raises, and BadArgumentError for streams that the venue cannot have.
    """

    def __init__(self, settings: Settings, manager: str = RUN, pid: int = 0) -> None:
        self._settings = settings
        self._codec = get_codec(
            settings.protocol, settings.market_type, settings.csrf_token
        )
        endpoints = self._codec.endpoints(settings.endpoint, settings.port)
        streams = self._checked(settings.streams)
        self._wants = Wants()
        self._wants.put(manager, pid or os.getpid(), streams)
        self._commands = Commands()
        self._session = Session(
            self._codec, settings, endpoints, streams, wake_fd=self._commands.wake_fd
        )
        self._waiting: list[Command] = []  # for the venue's acknowledgement
        self._fed: Streams = ()  # what the venue acknowledged last
        self._shown: tuple[object, ...] = ()
        self._reconnects = self._oversized = 0
        self._lost: FeedLostError | None = None
        self._unlink = False
        self._writer = self._take_feed(streams)
        self._intake = Intake(
            self._writer, settings.close_grace, self._codec.flags_closed
        )
        self._intake.set_streams(streams)

    def _checked(self, streams: Sequence[Names]) -> Streams:
        return tuple(dict.fromkeys(self._codec.stream(*names) for names in streams))

    def _take_feed(self, streams: Streams) -> FeedWriter:
        settings = self._settings
        sizes = settings.history, settings.guard, settings.planned_streams
        writer = create(settings.feed, *sizes)
        if not writer.room(streams):
            # Full of streams that nobody wants any more: begin anew.
            writer.close(unlink=True)
            writer = create(settings.feed, *sizes)
        writer.set_state("disconnected")
        return writer

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

    def _give_up(self, error: FeedLostError) -> None:
        self._lost = error
        self.stop()

    def _loop(self) -> None:
        for outputs in self._session.batches():
            self._show()
            self._take(outputs)
            self._intake.tick()
            self._writer.tick()
            for command in self._commands.drain():
                self._obey(command)
        for command in self._waiting:
            command.fail(WebSocketConnectionError("the feeder is stopping"))
        self._commands.end()

    def _take(self, outputs: Sequence[Output]) -> None:
        start = 0
        for index, output in enumerate(outputs):
            # The session's own words are rare; the venue's go through in one piece.
            if isinstance(output, Subscribed | ChangeRefused):
                self._intake.take(outputs[start:index])  # type: ignore[arg-type] # events
                start = index + 1
                self._settle(output)
        self._intake.take(outputs[start:] if start else outputs)  # type: ignore[arg-type] # events

    def _settle(self, outcome: Subscribed | ChangeRefused) -> None:
        waiting, self._waiting = self._waiting, []
        if isinstance(outcome, Subscribed):
            self._fed = outcome.streams
            self._intake.set_streams(outcome.streams)
            for command in waiting:
                command.finish(streams=len(outcome.streams))
            return
        for command in reversed(waiting):
            command.undo()
            command.fail(WebSocketSubscriptionError(outcome.message))

    def _show(self) -> None:
        session = self._session
        shown = (session.state, session.endpoint, session.last_error, session.phase)
        if shown != self._shown:
            if self._shown[:1] == ("connected",) != shown[:1]:
                self._intake.disconnected()
            self._shown = shown
            self._writer.set_state(session.state)
            self._writer.note(self._facts())
        if session.reconnects != self._reconnects:
            self._writer.count("reconnects", session.reconnects - self._reconnects)
            self._reconnects = session.reconnects
        if session.oversized != self._oversized:
            self._writer.count("oversized", session.oversized - self._oversized)
            self._oversized = session.oversized

    def _facts(self) -> dict[str, Any]:
        session = self._session
        return {
            "endpoint": session.endpoint,
            "protocol": self._settings.protocol,
            "market_type": self._settings.market_type,
            "phase": session.phase,
            "attempts": session.attempts,
            "error_kind": session.error_kind,
            "last_error": session.last_error or None,
        }

    def _obey(self, command: Command) -> None:
        request = command.request
        try:
            if request.op == "subscribe":
                self._subscribe(command)
            elif request.op == "release":
                self._release(command)
            elif request.op == "stop":
                command.finish(stopping=True, pid=os.getpid())
                self.stop(request.unlink)
            elif request.op == "start":
                self._session.retry()
                command.finish()
            else:
                command.finish(pid=os.getpid(), state=self._session.state)
        except ShmfeedError as error:
            command.fail(error)

    def _subscribe(self, command: Command) -> None:
        request = command.request
        pairs = [
            (s, r) for s in request.symbols or () for r in request.resolutions or ()
        ]
        streams = self._checked(pairs)
        before = self._wants.get(request.manager)
        command.undo = lambda: self._wants.restore(request.manager, before)
        self._wants.put(request.manager, request.pid, streams)
        try:
            self._change(command)
        except ShmfeedError:
            command.undo()
            raise

    def _change(self, command: Command) -> None:
        union = self._wants.union()
        if not self._writer.room(union):
            raise BadArgumentError(
                f"feed {self._settings.feed!r} has room for"
                f" {self._writer.geometry.max_streams} streams, {len(union)} are"
                " wanted besides those it has carried; raise max_streams and restart"
            )
        if self._session.state == "connected" and set(union) == set(self._fed):
            command.finish(streams=len(union))
            return
        self._waiting.append(command)
        self._session.change(union)

    def _release(self, command: Command) -> None:
        self._wants.drop(command.request.manager)
        if not self._wants.alive():
            command.finish(stopping=True, pid=os.getpid())
            self.stop(command.request.unlink)
            return
        command.finish(stopping=False)
        union = self._wants.union()
        if set(union) != set(self._fed):
            self._session.change(union)
