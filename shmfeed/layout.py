"""The bytes of a segment: a picture, the constants, the sizes. No behaviour.

    segment   | header | entry 0 .. max_streams-1 | pad | slot 0 .. slot_count-1 |
    slot      | epoch intent published base retired .. | column 0 .. column 8 | pad |
    column    | row 0 .. capacity-1 | the same rows again |

All words are 8 bytes, 8-aligned, in the machine's own byte order; a *word* offset
below counts in units of 8 bytes. The first word, READY, combines the magic number and
the layout version. The writer of a new segment stores it last, so a reader that finds
it finds a complete segment.

A slot begins on a page of the host, so that a process can map it by itself. An entry
begins on a cache line. The header states where entries and slots begin and how long
each is.

An entry belongs to one stream for the life of the entry's epoch. A writer that gives
the entry to another stream raises the epoch first. The catalog word names the slot that
holds the stream's rows: (slot epoch << SLOT_BITS) | slot number. Row n of a slot
is at index n % capacity and again `capacity` rows further, so any window of up to
`capacity` rows is one contiguous piece of each column.

A *latch* holds a value of several words that is replaced often: a counter and two
cells. The value is in cell (counter % 2); counter 0 means that none was written yet. A
latch of text has the number of its UTF-8 bytes in a cell's first word.

Layout 1 is the same but for its sizes: a shorter header and shorter entries without the
words that follow `H_NOTE` and `E_NAMES`, and no padding.
"""

import mmap
from typing import Literal, NamedTuple, get_args

WORD = 8
VERSION = 2
OLDEST_VERSION = 1  # that is still read
MAGIC = 0x53484D46  # "SHMF"
READY = MAGIC << 32 | VERSION
MAGIC_SHIFT = 32

# Header words, written once.
H_READY = 0
H_SIZE = 1
H_MAX_STREAMS = 2
H_HISTORY = 3
H_GUARD = 4
H_SLOTS = 5
# Header words that change.
H_RETIRED = 6  # 1: retired, the feed's name may lead to another segment
H_WRITER_EPOCH = 7  # raised by each feeder that takes the segment
H_WRITER_PID = 8
H_STARTED = 9  # CLOCK_BOOTTIME ns, the start of this feeder
H_ALIVE = 10  # CLOCK_BOOTTIME ns, heartbeat of the thread: the process lives
H_TICK = 11  # CLOCK_BOOTTIME ns, heartbeat of the main loop: it runs
H_STATE = 12  # index into STATES
H_LAST_MESSAGE = 13  # CLOCK_BOOTTIME ns of the last frame of data, 0: none yet
H_STREAMS = 14  # entries in use; an entry is complete before it is counted
H_WAKE = 15  # the eventcount's 32-bit key, in the low half
H_COUNTERS = 16
COUNTERS = (  # `bars` counts closed bars and is first
    "bars",
    "messages",
    "malformed",
    "ignored",
    "late",
    "gaps",
    "duplicates",
    "revisions",
    "unsubscribed",
    "reconnects",
    "oversized",
    "missed",
    "disagreements",
)
H_BARS = H_COUNTERS
H_COUNTERS_ROOM = 48
H_HISTOGRAM = H_COUNTERS + H_COUNTERS_ROOM
H_HISTOGRAM_ROOM = 64  # latencies: venue to feeder, then feeder to ring
HISTOGRAM_WORDS = 32  # of one: its count, its sum in ns, its buckets
H_NOTE = H_HISTOGRAM + H_HISTOGRAM_ROOM  # latch of JSON
NOTE_WORDS = 128
NOTE_BYTES = (NOTE_WORDS - 1) * WORD
# Header words that layout 1 lacks. The first five are written once.
H_ENTRY_START = 385  # the word at which entry 0 begins
H_ENTRY_SIZE = 386  # words of an entry
H_SLOT_START = 387  # the word at which slot 0 begins
H_SLOT_SIZE = 388  # words of a slot
H_COLUMN_SIZE = 389  # words of a column; the padded slot size may hide a damaged one
H_CATALOG = 390  # raised by each change of the catalog's streams, odd during it
H_CLOCK_KNOWN = 391  # 1: the next word holds a value
H_CLOCK_OFFSET = 392  # ns, the venue's clock minus this host's
H_IDENTITY = 393  # latch of text: where the rows come from
IDENTITY_WORDS = 63
H_TAKEN = 521  # slots that have been used; those after it have no pages
H_STATE_SINCE = 523  # ms UTC of the state's last change, 0: not known
H_NEXT_ATTEMPT = 524  # CLOCK_BOOTTIME ns of the next attempt to connect, 0: none
H_REPAIR_GRACE = 525  # ns after E_BACK in which a stream counts as recovering
# ns by which CLOCK_BOOTTIME was ahead of CLOCK_MONOTONIC at the last heartbeat, plus 1:
# the time that the host has been suspended; 0: not known
H_SUSPENDED = 526
# CLOCK_BOOTTIME ns of what the link to a leader brought last, UNHEARD before; 0: the
# rows are not relayed
H_RELAYED = 527
UNHEARD = 1
H_TEXT = 528  # latch of JSON: facts of varying length
TEXT_WORDS = 8192  # 64 KiB
HEADER_WORDS = 17408
V1_HEADER_WORDS = 512

State = Literal["disconnected", "connecting", "connected", "reconnecting", "error"]
STATES: tuple[State, ...] = get_args(State)
CONNECTED = STATES.index("connected")

# Entry words.
E_WORD = 0  # the catalog word; 0: no rows yet
E_SUBSCRIBED = 1
E_SINCE = 2  # CLOCK_BOOTTIME ns of the last (un)subscription
E_UPDATED = 3  # CLOCK_BOOTTIME ns of the last append or forming update, 0: none yet
E_GAPS = 4  # bars missing from this stream so far
E_RECOVERING = 5  # 1: newer bars are held until the older ones are settled
E_FORMING = 6  # latch of FORMING_WORDS
FORMING_WORDS = 9
NO_BAR = -1  # open time of a forming cell whose bar was taken back
E_NAMES = 32
SYMBOL_BYTES = 48  # padded with NUL
TIMEFRAME_BYTES = 8
# Entry words that layout 1 lacks, or has as zeros.
E_EPOCH = 25  # raised before the entry is given to another stream
E_SILENCE = 26  # ns without an update after which the stream is stale, 0: not set
E_REASON = 27  # index into REASONS
E_AWAY = 28  # CLOCK_BOOTTIME ns since which no connection carries it, 0: one does
E_BACK = 29  # CLOCK_BOOTTIME ns of the connection's return after a loss, 0: none
E_COMPARED = 30  # CLOCK_BOOTTIME ns of a comparison with history that found nothing
# newer; 0: silences are not compared, UNCOMPARED: they are, and none was yet
UNCOMPARED = 1
E_COUNTERS = 40  # the stream's own counters
STREAM_COUNTERS = ("messages", "dropped", "missed")
E_COUNTERS_ROOM = 24
E_HOLES = 64  # latch of the stream's holes: their number, then HOLE_WORDS each
HOLES = 16
HOLE_WORDS = 5  # open time of the first and the last bar, bars, state, reason
E_WHY = 228  # latch of text: the reason in words
WHY_WORDS = 13
ENTRY_WORDS = 256
V1_ENTRY_WORDS = 48

# Reasons of a stream's health, as far as the other words do not tell it.
Reason = Literal["", "dropped", "refused", "closed", "polled", "warming", "muted"]
REASONS: tuple[Reason, ...] = get_args(Reason)

# The state of a hole, from the worst to the best, and the reason for it.
HoleState = Literal["open", "given_up", "none_at_venue"]
HOLE_STATES: tuple[HoleState, ...] = get_args(HoleState)
HoleReason = Literal[
    "",
    "no_source",
    "away",
    "blocked",
    "refused",
    "malformed",
    "disbelieved",
    "absent",
    "no_room",
    "accepted",
]
HOLE_REASONS: tuple[HoleReason, ...] = get_args(HoleReason)

SLOT_BITS = 16
SLOT_MASK = (1 << SLOT_BITS) - 1

# Slot words.
S_EPOCH = 0
S_INTENT = 1
S_PUBLISHED = 2
S_BASE = 3  # number of the oldest row, fixed for the epoch
S_RETIRED = 4  # epoch of the slot that took the rows' place last, 0: none yet
S_RESTED = 5  # CLOCK_BOOTTIME ns from which on no reader may rely on retired rows
SLOT_HEADER_WORDS = 8

# The columns of a slot, and the words of a forming cell, in this order. The float
# columns are adjacent: a window of them is one two-dimensional array.
COLUMNS = (
    "open_time",
    "close_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "money",
    "flags",
)
C_CLOSE_TIME = 1
C_FLOATS = 2
FLOATS = 6
VALUES = 5  # of FLOATS, a window's `values`
C_FLAGS = 8

# Limits of a segment.
MAX_STREAMS = 10_000
MAX_HISTORY = 10_000_000
_MIN_GUARD = 16
TIME_LIMIT = (
    253_370_764_800_000  # ms UTC, year 9999, exclusive: what a segment can hold
)
COUNT_LIMIT = 1 << 62  # each count is below it

# A feeder sends a heartbeat every BEAT_SECONDS and is dead DEAD_NS after its last one.
BEAT_SECONDS = 0.5
DEAD_NS = 2_000_000_000
STUCK_NS = 5_000_000_000  # the main loop of a connected feeder ticks far more often
LOOKUP_NS = 4_000_000  # the pace at which readers of a dead feed look up its name
AHEAD_NS = 3600 * 1_000_000_000  # a time further in the future is treated as damage


# Private, so that it is no constant of the C core: the host decides, not the build.
_PAGE_WORDS = mmap.PAGESIZE // WORD


def default_guard(history: int) -> int:
    """Return the guard of a feed that sets none."""
    return max(_MIN_GUARD, history // 4)


class Geometry(NamedTuple):
    """The sizes of one segment; every offset follows from them."""

    max_streams: int
    history: int
    guard: int
    version: int = VERSION

    @property
    def capacity(self) -> int:
        return self.history + self.guard

    @property
    def slots(self) -> int:
        """One slot per stream, and a spare one for each stream's repair, at least 8."""
        if self.version == 1:
            return self.needed_slots
        return self.max_streams + max(8, self.max_streams)

    @property
    def needed_slots(self) -> int:
        """The slots without which no feed begins; more are used where there is room."""
        return self.max_streams + max(8, -(-self.max_streams // 8))

    @property
    def header_words(self) -> int:
        return V1_HEADER_WORDS if self.version == 1 else HEADER_WORDS

    @property
    def entry_words(self) -> int:
        return V1_ENTRY_WORDS if self.version == 1 else ENTRY_WORDS

    @property
    def column_words(self) -> int:
        return 2 * self.capacity

    @property
    def slot_words(self) -> int:
        return self._padded(SLOT_HEADER_WORDS + len(COLUMNS) * self.column_words)

    @property
    def size(self) -> int:
        """The bytes of the whole segment."""
        return WORD * (self.slot_word(self.slots))

    @property
    def needed_bytes(self) -> int:
        """The bytes up to the last slot that is needed. The others may have no room."""
        return WORD * self.slot_word(self.needed_slots)

    def entry_word(self, index: int) -> int:
        """Return the word at which entry `index` begins."""
        return self.header_words + index * self.entry_words

    def slot_word(self, slot: int) -> int:
        """Return the word at which slot `slot` begins."""
        return self._padded(self.entry_word(self.max_streams)) + slot * self.slot_words

    def _padded(self, words: int) -> int:
        # Up to the next page; layout 1 has no padding.
        return words if self.version == 1 else -(-words // _PAGE_WORDS) * _PAGE_WORDS
