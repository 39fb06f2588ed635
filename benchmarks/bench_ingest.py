"""The messages a second that a feeder ingests, compared with a bare receive loop.

A local venue sends a recording, made beforehand, as fast as the client reads. The
feeder is the whole `shmfeed run`: socket, codec, ledger, ring. The feed's status says
how many messages arrived, and every value in its rings is checked. The rivals receive
the same frames and discard them: websocket-client's `recv_data` in a loop, and its
WebSocketApp with its defaults (the first tenth only, as it is slow). A loop that only
empties the socket shows that the venue is not the limit.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from statistics import median
from typing import Any, NamedTuple

import harness
import report
import traffic
import websocket
from harness import spread
from machine import cpu_seconds
from report import Goal
from traffic import SEED, SYMBOLS, TIMEFRAME, Traffic

import shmfeed
import shmfeed.feed
from shmfeed.codecs import get_codec
from shmfeed.simulator import STEPS, verify

PROTOCOLS = ("wealthai", "binance")
MARKET = "spot"  # the wealthai protocol passes it on
HISTORY = 1000
BARS, QUICK_BARS = 1250, 200
ROUNDS, QUICK_ROUNDS = 7, 1
MIN_RATIO = 0.6  # of the bare loop
HEADER = ("", "messages a second", "CPU us each", "of the bare loop")
TIMEOUT_SECONDS, POLL_SECONDS = 60.0, 0.005

DRAIN, BARE, FEEDER, APP = "drain", "bare", "feeder", "app"
LABELS = {
    DRAIN: "the venue's own pace: a socket emptied",
    BARE: "bare loop: WebSocket.recv_data",
    FEEDER: "feeder: socket, codec, ledger, ring",
    APP: "WebSocketApp, its defaults",
}


class Run(NamedTuple):
    """One contender's run through the traffic."""

    messages: int
    seconds: float
    cpu: float  # seconds, of the whole process

    @property
    def rate(self) -> float:
        return self.messages / max(self.seconds, 1e-6)


def subscribe(url: str, protocol: str) -> tuple[str, list[str]]:
    """Return the URL, and the frames to send, each of which gets one answer."""
    codec = get_codec(protocol, MARKET)
    keys = [codec.stream_key(symbol, TIMEFRAME) for symbol in SYMBOLS]
    url = codec.url(codec.endpoints([url], [])[0], keys)
    return url, [request.frame for request in codec.subscribe(keys)]


def connect(url: str, protocol: str) -> websocket.WebSocket:
    """Return a plain connection whose next bytes are the traffic."""
    url, frames = subscribe(url, protocol)
    ws = websocket.WebSocket(skip_utf8_validation=True)
    ws.connect(url, timeout=TIMEOUT_SECONDS, http_no_proxy=["127.0.0.1"])
    for frame in frames:
        ws.send(frame)
        ws.recv_data()
    return ws


def drain(url: str, protocol: str, messages: int, size: int) -> Run:
    ws = connect(url, protocol)
    buffer = bytearray(1 << 20)
    receive = ws.sock.recv_into
    left = size
    start, cpu = time.perf_counter(), time.process_time()
    while left:
        left -= receive(buffer)
    run = Run(messages, time.perf_counter() - start, time.process_time() - cpu)
    ws.shutdown()
    return run


def bare(url: str, protocol: str, messages: int, size: int) -> Run:
    ws = connect(url, protocol)
    receive = ws.recv_data
    receive()
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(messages - 1):
        receive()
    run = Run(messages - 1, time.perf_counter() - start, time.process_time() - cpu)
    ws.shutdown()
    return run


def app(url: str, protocol: str, messages: int, size: int) -> Run:
    url, frames = subscribe(url, protocol)
    total = max(2, messages // 10)
    count = -len(frames)  # the first messages are answers
    started: list[float] = []
    ended: list[float] = []

    def on_open(socket: websocket.WebSocketApp) -> None:
        for frame in frames:
            socket.send(frame)

    def on_message(socket: websocket.WebSocketApp, message: str) -> None:
        nonlocal count
        count += 1
        if count == 1:
            started[:] = time.perf_counter(), time.process_time()
        elif count == total:
            ended[:] = time.perf_counter(), time.process_time()
            socket.close()

    websocket.WebSocketApp(url, on_open=on_open, on_message=on_message).run_forever()
    return Run(total - 1, ended[0] - started[0], ended[1] - started[1])


RIVALS: dict[str, Callable[..., Run]] = {DRAIN: drain, BARE: bare, APP: app}


def feeder(
    url: str, sent: Traffic, *more: str, program: Sequence[str] = ("-m", "shmfeed")
) -> Run:
    """Run a feeder from its launch to the last message; exit if it lost any.

    `more` are options of the feeder, `program` is the command as the interpreter's
    arguments.
    """
    name = f"bench-{os.getpid()}"
    command = [sys.executable, *program, "run", "--unlink", "--feed", name]
    command += ["--protocol", sent.protocol, "--market-type", MARKET]
    command += ["--endpoint", url]
    command += ["--symbols", ",".join(SYMBOLS), "--resolutions", TIMEFRAME]
    command += ["--history", str(HISTORY), *more]
    with tempfile.TemporaryFile("w+") as output:
        quiet = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        with subprocess.Popen(command, **quiet) as process:
            try:
                with _attach(name, process) as feed:
                    run = _follow(feed, process.pid, len(sent.payloads))
                    _check(feed, sent)
            except BaseException:
                output.seek(0)
                print(output.read(), file=sys.stderr)
                raise
            finally:
                process.terminate()
    return run


def _attach(name: str, process: subprocess.Popen[bytes]) -> shmfeed.feed.Feed:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(shmfeed.FeedNotFoundError):
            return shmfeed.attach(name, timeout=0.1)
    raise SystemExit(f"the feeder created no feed; its exit code is {process.poll()}")


def _follow(feed: Any, pid: int, messages: int) -> Run:
    """Measure from the last poll without a message to the feed's last message."""
    begun: tuple[int, float, float] | None = None
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        now, status, cpu = time.perf_counter(), feed.status(), cpu_seconds(pid)
        count = status["messages"]
        if begun is None or not count:
            begun = count, now, cpu
        if count >= messages:
            end = now - status["last_message_age"]
            return Run(count - begun[0], end - begun[1], cpu - begun[2])
        if time.monotonic() > deadline:
            raise SystemExit(f"the feed has {count} of {messages} messages: {status}")
        time.sleep(POLL_SECONDS)


def _check(feed: Any, sent: Traffic) -> None:
    status = feed.status()
    wanted = {
        "messages": len(sent.payloads),
        "bars": len(SYMBOLS) * sent.bars,
        **dict.fromkeys(("malformed", "ignored", "late", "gaps", "reconnects"), 0),
    }
    found = {name: status[name] for name in wanted}
    if found != wanted:
        raise SystemExit(f"the feed's status has {found}; expected {wanted}")
    for symbol in SYMBOLS:
        rows = feed.ring(symbol, TIMEFRAME).snapshot(HISTORY)
        if len(rows) != min(HISTORY, sent.bars):
            raise SystemExit(f"{symbol}: {len(rows)} rows")
        if verify(SEED, symbol, TIMEFRAME, rows):
            raise SystemExit(f"{symbol}: rows differ from the venue's")


def run_all(sent: Traffic, rounds: int) -> dict[str, list[Run]]:
    """Run all contenders in each round, in an order that rotates."""
    runs: dict[str, list[Run]] = {name: [] for name in LABELS}
    with traffic.venue(sent) as url:
        argument = json.dumps([url, sent.protocol, len(sent.payloads), sent.size])
        with harness.contenders(__file__, *RIVALS, argument=argument) as found:
            for number in range(rounds):
                for name in harness.in_turn([*LABELS], number):
                    if name == FEEDER:
                        run = feeder(url, sent)
                    else:
                        run = Run(*found[name].ask(call="go")["result"])
                    runs[name].append(run)
    return runs


def table(sent: Traffic, runs: Mapping[str, list[Run]]) -> list[report.Line]:
    count, rounds = len(sent.payloads), len(runs[FEEDER])
    rates = {name: [run.rate for run in of_name] for name, of_name in runs.items()}
    shares = {n: spread(harness.ratios(rates[n], rates[BARE])) for n in LABELS}
    title = (
        f"{sent.protocol}: {count} messages of {sent.size / count:.0f} bytes,"
        f" {len(SYMBOLS)} streams, one message in {STEPS} closes a bar"
    )
    lines: list[report.Line] = ["", title]
    for name, label in LABELS.items():
        rate = spread(rates[name]).text(",.0f")
        cpu = median(run.cpu / run.messages * 1e6 for run in runs[name])
        lines.append((f"  {label}", rate, f"{cpu:.2f}", shares[name].text()))
    share, all_bars = shares[FEEDER], len(SYMBOLS) * sent.bars
    lines += [
        f"  the feeder: {share.text()} of the bare loop",
        f"  its {rounds} runs: {count} messages, {all_bars} bars, each value right",
    ]
    return lines


def goal(protocol: str, runs: Mapping[str, list[Run]]) -> Goal:
    rates = ([run.rate for run in runs[name]] for name in (FEEDER, BARE))
    what = f"a whole feeder beside a bare receive loop, {protocol}"
    return report.at_least(what, harness.ratios(*rates), MIN_RATIO)


def to_json(run: Run) -> dict[str, float]:
    return {name: float(f"{value:.6g}") for name, value in run._asdict().items()}


def main() -> None:
    """Run all contenders, or serve as one of them."""
    options = report.argument_parser(__doc__).parse_args()
    if options.contender is not None:
        arguments = json.loads(options.argument)
        harness.serve({"go": lambda: RIVALS[options.contender](*arguments)})
        return
    bars, rounds = (QUICK_BARS, QUICK_ROUNDS) if options.quick else (BARS, ROUNDS)
    lines: list[report.Line] = [HEADER]
    goals: list[Goal] = []
    results: dict[str, Any] = {}
    for protocol in PROTOCOLS:
        sent = traffic.make(protocol, bars)
        runs = run_all(sent, rounds)
        lines += table(sent, runs)
        goals.append(goal(protocol, runs))
        results[protocol] = {
            name: [to_json(run) for run in of_name] for name, of_name in runs.items()
        }
    report.print_report(__file__, lines, results, options.json, goals)


if __name__ == "__main__":
    main()
