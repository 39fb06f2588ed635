/* Each verb of the protocol as a function, for a test that reads its compiled code. */
#include "protocol.h"

void
verb_append(const ring_slot *slot, int64_t row, const int64_t *cells, int64_t now,
            ring_word *segment)
{
    ring_append(slot, row, cells, now, segment + SHM_H_MAX_STREAMS,
                segment + SHM_H_TICK, segment + SHM_H_BARS);
}

void
verb_window(const ring_slot *slot, int64_t most, int64_t *first, int64_t *last)
{
    ring_window(slot, most, first, last);
}

bool
verb_count(const ring_slot *slot, int64_t word, int64_t *count)
{
    return ring_count(slot, word, count);
}

bool
verb_held(const ring_slot *slot, int64_t word, int64_t first)
{
    return ring_intact(slot, word, first);
}

/* A snapshot, as a reader takes one. */
bool
verb_snapshot(const ring_slot *slot, int64_t word, int64_t most, int64_t *into)
{
    int64_t first, last;

    ring_window(slot, most, &first, &last);
    ring_copy(slot, first, last, into, most);
    return ring_intact(slot, word, first);
}

void
verb_latch_write(ring_word *latch, const int64_t *value)
{
    latch_write(latch, value);
}

int
verb_latch_read(ring_word *latch, int64_t *value)
{
    return latch_read(latch, value);
}
