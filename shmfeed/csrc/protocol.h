/* The memory protocol in C11 atomics; no Python, no system call.
 *
 * shmfeed/ringbuf.py defines the protocol in numbered steps, and the comments here name
 * the steps by the same numbers. This file adds what pure Python cannot say: which
 * accesses are atomic, and in which order other CPUs see them. Each word is read and
 * written whole by a relaxed access, so no race is undefined behaviour. Each ordering
 * line has one comment that names its partner; other lines have none.
 *
 * shmfeed_layout.h holds the constants of shmfeed/layout.py; setup.py writes it.
 *
 * RING_STORED() follows each store; a test that kills the writer there defines it.
 */
#ifndef SHM_PROTOCOL_H
#define SHM_PROTOCOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shmfeed_layout.h"

#ifndef RING_STORED
#define RING_STORED() ((void)0)
#endif

typedef _Atomic int64_t ring_word;

_Static_assert(sizeof(ring_word) == SHM_WORD, "a word is 8 bytes");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "an access to a word needs no lock");
_Static_assert(SHM_FORMING_WORDS == SHM_COLUMNS, "a forming cell is a row");

/* The rows of one stream. */
typedef struct {
    ring_word *header;
    ring_word *columns;
    int64_t capacity;
} ring_slot;

static inline int64_t
ring_load(const ring_word *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static inline int64_t
ring_load_acquire(const ring_word *word)
{
    return atomic_load_explicit(word, memory_order_acquire);
}

static inline void
ring_store(ring_word *word, int64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
    RING_STORED();
}

static inline void
ring_store_release(ring_word *word, int64_t value)
{
    atomic_store_explicit(word, value, memory_order_release);
    RING_STORED();
}

/* a - b, saturating: a damaged segment may hold any number. */
static inline int64_t
ring_minus(int64_t a, int64_t b)
{
    int64_t difference;
    if (__builtin_sub_overflow(a, b, &difference)) {
        return a < b ? INT64_MIN : INT64_MAX;
    }
    return difference;
}

/* Index of row `row` in its column; within the column even for a damaged number. */
static inline int64_t
ring_index(const ring_slot *slot, int64_t row)
{
    int64_t index = row % slot->capacity;
    return index < 0 ? index + slot->capacity : index;
}

/* Words from one column to the next. */
static inline int64_t
ring_stride(const ring_slot *slot)
{
    return 2 * slot->capacity;
}

static inline ring_slot
ring_slot_at(ring_word *segment, int64_t at, int64_t capacity)
{
    return (ring_slot){
        segment + at, segment + at + SHM_SLOT_HEADER_WORDS, capacity};
}

/* Append row `row`, steps A1 to A4. Also store `updated`, `tick` and `bars`. */
static inline void
ring_append(const ring_slot *slot, int64_t row, const int64_t *cells, int64_t now,
            ring_word *updated, ring_word *tick, ring_word *bars)
{
    ring_word *cell = slot->columns + ring_index(slot, row);

    ring_store(slot->header + SHM_S_INTENT, row + 1);
    /* A2, release: pairs with R4. A reader that loaded a cell written below sees the
       intent stored above. */
    atomic_thread_fence(memory_order_release);
    for (int column = 0; column < SHM_COLUMNS; column++) {
        ring_store(cell, cells[column]);
        ring_store(cell + slot->capacity, cells[column]);
        cell += ring_stride(slot);
    }
    ring_store(updated, now);
    ring_store(tick, now);
    ring_store(bars, (int64_t)((uint64_t)ring_load(bars) + 1));
    /* A4, release: pairs with R2. */
    ring_store_release(slot->header + SHM_S_PUBLISHED, row + 1);
}

/* The window of the newest `most` published rows, [*first, *last): step R2. */
static inline void
ring_window(const ring_slot *slot, int64_t most, int64_t *first, int64_t *last)
{
    /* R2, acquire: pairs with A4. */
    *last = ring_load_acquire(slot->header + SHM_S_PUBLISHED);
    int64_t base = ring_load(slot->header + SHM_S_BASE);
    *first = ring_minus(*last, most);
    if (*first < base) {
        *first = base;
    }
}

/* The number of the next row; false if the slot's epoch is not that of `word`. */
static inline bool
ring_count(const ring_slot *slot, int64_t word, int64_t *count)
{
    /* R2, acquire: pairs with A4, and keeps the load of the epoch behind it. */
    *count = ring_load_acquire(slot->header + SHM_S_PUBLISHED);
    return ring_load(slot->header + SHM_S_EPOCH) == word >> SHM_SLOT_BITS;
}

/* True if no row from `first` on was overwritten and the slot still has the epoch of
   catalog word `word`: steps R4, R5. */
static inline bool
ring_intact(const ring_slot *slot, int64_t word, int64_t first)
{
    /* R4, acquire: pairs with A2. The rows were loaded above this line. */
    atomic_thread_fence(memory_order_acquire);
    /* R5, acquire: pairs with S2. The load of the epoch then shows whether the
       intent belongs to the slot's next epoch. */
    int64_t intent = ring_load_acquire(slot->header + SHM_S_INTENT);
    int64_t epoch = ring_load(slot->header + SHM_S_EPOCH);
    return epoch == word >> SHM_SLOT_BITS &&
           ring_minus(intent, first) <= slot->capacity;
}

/* Row `row` in column 0. */
static inline const ring_word *
ring_row(const ring_slot *slot, int64_t row)
{
    return slot->columns + ring_index(slot, row);
}

/* The first of rows [first, last) that closes at `bound` or later; `last` if none does.
   Each column has its rows twice, so these are adjacent. */
static inline int64_t
ring_search(const ring_slot *slot, int64_t first, int64_t last, int64_t bound)
{
    const ring_word *closes =
        ring_row(slot, first) + SHM_C_CLOSE_TIME * ring_stride(slot);
    int64_t low = 0, high = last - first;

    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (ring_load(closes + middle) < bound) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return first + low;
}

/* Copy `rows` rows of all columns; the strides are words from column to column. */
static inline void
ring_copy_columns(const ring_word *from, int64_t from_stride, int64_t rows,
                  int64_t *into, int64_t into_stride)
{
    for (int column = 0; column < SHM_COLUMNS; column++) {
#pragma GCC unroll 8
        for (int64_t row = 0; row < rows; row++) {
            into[row] = ring_load(from + row);
        }
        from += from_stride;
        into += into_stride;
    }
}

/* Copy rows [first, last) into columns that are `stride` words apart. */
static inline void
ring_copy(const ring_slot *slot, int64_t first, int64_t last, int64_t *into,
          int64_t stride)
{
    ring_copy_columns(ring_row(slot, first), ring_stride(slot), last - first, into,
                      stride);
}

/* Copy the newest published row into `cells`; false if there is no row. Afterwards call
   ring_intact for row `*row`. */
static inline bool
ring_newest(const ring_slot *slot, int64_t *cells, int64_t *row)
{
    int64_t first, last;

    ring_window(slot, 1, &first, &last);
    *row = ring_minus(last, 1);
    if (first >= last) {
        return false;
    }
    ring_copy(slot, *row, last, cells, 1);
    return true;
}

/* The latch of the forming bar: a counter and two cells, one behind the other. */

static inline ring_word *
latch_cell(ring_word *latch, int64_t counter)
{
    return latch + 1 + (counter & 1) * SHM_FORMING_WORDS;
}

/* Replace the value, steps U1 to U3. */
static inline void
latch_write(ring_word *latch, const int64_t *value)
{
    int64_t counter = (int64_t)((uint64_t)ring_load(latch) + 1);
    ring_word *cell = latch_cell(latch, counter);

    /* U1, release: pairs with F3. A reader that loaded a word written below sees the
       counter that the write before this one stored. */
    atomic_thread_fence(memory_order_release);
    for (int word = 0; word < SHM_FORMING_WORDS; word++) {
        ring_store(cell + word, value[word]);
    }
    /* U3, release: pairs with F1. */
    ring_store_release(latch, counter);
}

typedef enum { LATCH_EMPTY, LATCH_WHOLE, LATCH_OUTRUN } latch_state;

/* Try once to copy the value, steps F1 to F4. */
static inline latch_state
latch_read(ring_word *latch, int64_t *value)
{
    /* F1, acquire: pairs with U3. */
    int64_t counter = ring_load_acquire(latch);
    if (counter == 0) {
        return LATCH_EMPTY;
    }
    const ring_word *cell = latch_cell(latch, counter);
    for (int word = 0; word < SHM_FORMING_WORDS; word++) {
        value[word] = ring_load(cell + word);
    }
    /* F3, acquire: pairs with U1. */
    atomic_thread_fence(memory_order_acquire);
    return ring_load(latch) == counter ? LATCH_WHOLE : LATCH_OUTRUN;
}

#endif
