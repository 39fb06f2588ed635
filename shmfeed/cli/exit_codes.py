"""Exit codes: what each means in general, and what it says of each command."""

FAILED, USAGE, LOST = 1, 2, 4
INTERRUPTED, PIPE = 130, 141  # as a shell reports SIGINT and SIGPIPE

_REFUSED = "an option or a value is not accepted"
_EARLY = "Ctrl-C before it began"
_NO_FEED = f"there is no such feed, or {_REFUSED}"

# Of each command, what its codes mean, besides those of EVERYWHERE.
MEANINGS: dict[str, dict[int, str]] = {
    "run": {
        0: "a signal ended it",
        FAILED: "it could not feed: another feeder has the feed, no room, ..",
        USAGE: f"a setting or {_REFUSED}",
        LOST: "the feed was taken away while it ran",
        INTERRUPTED: _EARLY,
    },
    "simulate": {
        0: "a signal ended it",
        FAILED: "it cannot listen there",
        USAGE: _REFUSED,
        INTERRUPTED: _EARLY,
    },
    "demo": {
        0: "every value that was read was right",
        FAILED: "a value was wrong, or nothing was read",
        USAGE: _REFUSED,
        INTERRUPTED: _EARLY,
    },
    "status": {
        0: "the feed is live or quiet",
        FAILED: "it is recovering, stale or dead, or cannot be read",
        USAGE: _NO_FEED,
    },
    "ls": {
        0: "all that there is was listed, be it nothing",
        FAILED: "the feed of --feed cannot be read",
        USAGE: _NO_FEED,
    },
    "tail": {
        0: "the bars were shown",
        FAILED: "the feed cannot be read",
        USAGE: f"there is no such feed or stream, or {_REFUSED}",
    },
    "doctor": {
        0: "there is no problem; notes do not count",
        FAILED: "there is a problem",
        USAGE: _REFUSED,
    },
    "clean": {
        0: "what no feeder holds is gone",
        FAILED: "something of that stayed; with --feed: anything of that feed stayed",
        USAGE: f"there is nothing of such a feed, or {_REFUSED}",
    },
}
EVERYWHERE = {INTERRUPTED: "Ctrl-C", PIPE: "whoever read the output has gone"}


def in_words(command: str) -> str:
    """The section of a command's help."""
    meanings = EVERYWHERE | MEANINGS[command]
    lines = [f"  {code:<4} {meanings[code]}" for code in sorted(meanings)]
    return "\n".join(["exit codes:", *lines])
