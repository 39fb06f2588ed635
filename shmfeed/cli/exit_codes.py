"""Exit codes, and what each means of each command."""

from textwrap import fill

_WIDTH, _REST = 88, " " * 7  # of a line of the help, and before its continuation

FAILED, USAGE, GAVE_UP, LOST = 1, 2, 3, 4
INTERRUPTED, PIPE = 130, 141  # as a shell reports SIGINT and SIGPIPE

_REFUSED = "an option or a value is not accepted"
_NO_FEED = f"there is no such feed, or {_REFUSED}"
_EARLY = "Ctrl-C before it started"

# The codes of each command, besides those of COMMON.
MEANINGS: dict[str, dict[int, str]] = {
    "run": {
        0: "a signal stopped the feeder, or another one took over; --check: each stream"
        " has a bar, and REST the same one",
        FAILED: "the feeder failed: another has the feed, no space, ..; --check: no bar"
        " came, or REST differs",
        USAGE: "a setting, an option or a value is not accepted",
        GAVE_UP: "with give_up: max_reconnect_attempts attempts in a row failed",
        LOST: "the feed was removed or replaced while it ran",
        INTERRUPTED: _EARLY,
    },
    "publish": {
        0: "a signal stopped it",
        FAILED: "a certificate that the settings name cannot be used",
        USAGE: "a setting, an option or a value is not accepted",
        INTERRUPTED: _EARLY,
    },
    "simulate": {
        0: "a signal stopped the venue",
        FAILED: "the venue cannot listen on this address",
        USAGE: _REFUSED,
        INTERRUPTED: _EARLY,
    },
    "demo": {
        0: "every value that a strategy read was right",
        FAILED: "a value was wrong, or no bars were read",
        USAGE: _REFUSED,
        INTERRUPTED: _EARLY,
    },
    "status": {
        0: "the feed, or each stream of --require, is live or quiet; --alive: a feeder"
        " lives",
        FAILED: "it has another health, or cannot be read; --alive: no feeder lives",
        USAGE: _NO_FEED,
    },
    "wait": {
        0: "the feed has the health, or the bars",
        FAILED: "it had not at the deadline, or cannot be read",
        USAGE: _REFUSED,
    },
    "ls": {
        0: "the feeds were listed, perhaps an empty list",
        FAILED: "the feed of --feed cannot be read",
        USAGE: _NO_FEED,
    },
    "readers": {
        0: "the readers were listed, perhaps an empty list",
        FAILED: "the processes of this host cannot be listed",
        USAGE: _NO_FEED,
    },
    "top": {
        0: "q ended it, or one sample was printed",
        FAILED: "the output cannot be written",
        USAGE: _NO_FEED,
    },
    "tail": {
        0: "the bars were printed",
        FAILED: "the feed cannot be read",
        USAGE: f"there is no such feed or stream, or {_REFUSED}",
    },
    "plot": {
        0: "the file was written, perhaps without bars",
        FAILED: "the feed cannot be read, or the file cannot be written",
        USAGE: f"there is no such feed or stream, or {_REFUSED}",
    },
    "gaps": {
        0: "no bars are missing, or only those that the venue lacks",
        FAILED: "bars are missing, or the feed cannot be read",
        USAGE: "no such feed or stream, no feeder for --retry or --accept, or a bad"
        " option or value",
    },
    "export": {
        0: "the file was written, perhaps without bars",
        FAILED: "the store or the feed cannot be read, or the file cannot be written",
        USAGE: f"there is no such store, feed or stream, or {_REFUSED}",
    },
    "asof": {
        0: "the rows were printed, perhaps none",
        FAILED: "the store cannot be read",
        USAGE: f"there is no such store or stream, or {_REFUSED}",
    },
    "audit": {
        0: "nothing differs",
        FAILED: "a bar differs, is missing or was not compared; or the feed or a store"
        " cannot be read",
        USAGE: f"history cannot be asked, there is no such feed, or {_REFUSED}",
    },
    "config": {
        0: "the settings were printed",
        USAGE: "a setting, an option or a value is not accepted",
    },
    "reset": {
        0: "the bars were dropped",
        FAILED: "the store cannot be used, or the feeder does not answer",
        USAGE: f"there is no such feed or stream, or {_REFUSED}",
    },
    "reload": {
        0: "the feeder has read its settings again",
        FAILED: "a setting is not accepted, and the old ones stay; or no answer came",
        USAGE: f"no feeder of this feed runs, or {_REFUSED}",
    },
    "dashboard": {
        0: "a signal stopped it",
        FAILED: "it cannot listen on this address, or a package is missing",
        USAGE: f"the address needs a token, or {_REFUSED}",
        INTERRUPTED: _EARLY,
    },
    "metrics": {
        0: "a signal stopped it, or --once has printed the metrics",
        FAILED: "it cannot listen on this address, or prometheus-client is missing",
        USAGE: _REFUSED,
        INTERRUPTED: _EARLY,
    },
    "doctor": {
        0: "no problem was found; notes do not count",
        FAILED: "a problem was found",
        USAGE: _REFUSED,
    },
    "clean": {
        0: "all was removed that no feeder holds, or has held for 10 minutes",
        FAILED: "some of it is left; with --feed: any file of that feed is left",
        USAGE: f"there are no files of such a feed, or {_REFUSED}",
    },
    "completion": {0: "the script was printed", USAGE: _REFUSED},
}
COMMON = {INTERRUPTED: "Ctrl-C", PIPE: "the program that read the output has ended"}


def format_exit_codes(command: str) -> str:
    """Return the section of a command's help that lists its exit codes."""
    meanings = COMMON | MEANINGS[command]
    lines = [
        fill(
            meanings[code],
            _WIDTH,
            initial_indent=f"  {code:<4} ",
            subsequent_indent=_REST,
        )
        for code in sorted(meanings)
    ]
    return "\n".join(["exit codes:", *lines])
