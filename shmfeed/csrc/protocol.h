/* The memory protocol of ringbuf.py in C11 atomics; no Python, no system call.
 *
 * ringbuf.py tells the protocol in numbered steps and words.py the cell pair's. Here
 * stands what pure Python cannot say: which accesses are atomic, and their order. Each
 * word is read and written whole by a relaxed access, so that no race is undefined;
 * each ordering has one comment that names its partner.
 *
 * The sizes are those of layout.py: _layout.h is made from it when this is built.
 *
 * RING_STORED() follows each store; a test that kills the writer there defines it.
 * RING_WITHOUT_... leaves out one check or ordering: for the tests that show that it is
 * needed, and seen to be.
 */
#ifndef SHM_RING_H
#define SHM_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout.h"

#ifndef RING_STORED
#define RING_STORED() ((void)0)
#endif

typedef _Atomic int64_t ring_word;

_Static_assert(sizeof(ring_word) == SHM_WORD, "a word is 8 bytes");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "and needs no lock");
_Static_assert(SHM_FORMING_WORDS == SHM_COLUMNS, "a forming cell is a row");

/* Where one stream's rows stand. */
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

/* Words may hold anything in a damaged segment: nothing may overflow. */
static inline int64_t
ring_minus(int64_t a, int64_t b)
{
    int64_t difference;
    if (__builtin_sub_overflow(a, b, &difference)) {
        return a < b ? INT64_MIN : INT64_MAX;
    }
    return difference;
}

/* Where row `row` stands in a column; never outside it, whatever the number. */
static inline int64_t
ring_place(const ring_slot *slot, int64_t row)
{
    int64_t place = row % slot->capacity;
    return place < 0 ? place + slot->capacity : place;
}

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

/* Rows: the writer. */

/* Close row `row`; `updated`, `tick` and `bars` are words that tell of it. */
static inline void
ring_append(const ring_slot *slot, int64_t row, const int64_t *cells, int64_t now,
            ring_word *updated, ring_word *tick, ring_word *bars)
{
    ring_word *cell = slot->columns + ring_place(slot, row);

    ring_store(slot->header + SHM_S_INTENT, row + 1);
#ifndef RING_WITHOUT_INTENT_FENCE
    /* Release: pairs with ring_held's fence. Who has read one of the cells that are
       written below sees the intent. */
    atomic_thread_fence(memory_order_release);
#endif
    for (int column = 0; column < SHM_COLUMNS; column++) {
        ring_store(cell, cells[column]);
        ring_store(cell + slot->capacity, cells[column]);
        cell += ring_stride(slot);
    }
    ring_store(updated, now);
    ring_store(tick, now);
    ring_store(bars, (int64_t)((uint64_t)ring_load(bars) + 1));
#ifndef RING_WITHOUT_PUBLISHED_RELEASE
    /* Release: pairs with ring_window's acquire of the same word. */
    ring_store_release(slot->header + SHM_S_PUBLISHED, row + 1);
#else
    ring_store(slot->header + SHM_S_PUBLISHED, row + 1);
#endif
}

/* Rows: readers. */

/* The newest `most` published rows: [*first, *last). */
static inline void
ring_window(const ring_slot *slot, int64_t most, int64_t *first, int64_t *last)
{
#ifndef RING_WITHOUT_PUBLISHED_ACQUIRE
    /* Acquire: pairs with ring_append's release of the same word. */
    *last = ring_load_acquire(slot->header + SHM_S_PUBLISHED);
#else
    *last = ring_load(slot->header + SHM_S_PUBLISHED);
#endif
    int64_t base = ring_load(slot->header + SHM_S_BASE);
    *first = ring_minus(*last, most);
    if (*first < base) {
        *first = base;
    }
}

/* The next row's number; false if the slot is of another life than `word`. */
static inline bool
ring_count(const ring_slot *slot, int64_t word, int64_t *count)
{
    /* Acquire: pairs with ring_append's release; and the epoch is looked at after. */
    *count = ring_load_acquire(slot->header + SHM_S_PUBLISHED);
    return ring_load(slot->header + SHM_S_EPOCH) == word >> SHM_SLOT_BITS;
}

/* Whether all rows from `first` on are still those of catalog word `word`. */
static inline bool
ring_held(const ring_slot *slot, int64_t word, int64_t first)
{
#ifdef RING_WITHOUT_HELD
    (void)slot, (void)word, (void)first;
    return true;
#else
#ifndef RING_WITHOUT_HELD_FENCE
    /* Acquire: pairs with ring_append's fence. The rows were read before this. */
    atomic_thread_fence(memory_order_acquire);
#endif
    /* Acquire: pairs with the fence after a slot's new epoch. An intent of its next
       life is then known for what it is. */
    int64_t intent = ring_load_acquire(slot->header + SHM_S_INTENT);
    int64_t epoch = ring_load(slot->header + SHM_S_EPOCH);
    return epoch == word >> SHM_SLOT_BITS &&
           ring_minus(intent, first) <= slot->capacity;
#endif
}

/* Where row `row` of column 0 stands, once. */
static inline const ring_word *
ring_row(const ring_slot *slot, int64_t row)
{
    return slot->columns + ring_place(slot, row);
}

/* Copy `rows` rows of all columns; the columns are so many words apart. */
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

/* Copy rows, `first` up to `last`, into columns that are `stride` words apart. */
static inline void
ring_copy(const ring_slot *slot, int64_t first, int64_t last, int64_t *into,
          int64_t stride)
{
    ring_copy_columns(ring_row(slot, first), ring_stride(slot), last - first, into,
                      stride);
}

/* The newest published row into `cells`; false if there is none. Ask ring_held, of row
   `*row`, whether it is what it was. */
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

/* The forming bar: a pair of cells and a counter, `pair` begins with the counter. */

static inline ring_word *
ring_cell(ring_word *pair, int64_t counter)
{
    return pair + 1 + (counter & 1) * SHM_FORMING_WORDS;
}

static inline void
ring_write_cells(ring_word *pair, const int64_t *value)
{
    int64_t counter = (int64_t)((uint64_t)ring_load(pair) + 1);
    ring_word *cell = ring_cell(pair, counter);

#ifndef RING_WITHOUT_CELL_FENCE
    /* Release: pairs with ring_read_cells' fence. Who has read a word that is written
       below sees the counter of the write before. */
    atomic_thread_fence(memory_order_release);
#endif
    for (int word = 0; word < SHM_FORMING_WORDS; word++) {
        ring_store(cell + word, value[word]);
    }
    /* Release: pairs with ring_read_cells' acquire. */
    ring_store_release(pair, counter);
}

typedef enum { CELLS_NONE, CELLS_WHOLE, CELLS_OUTRUN } ring_cells;

/* One try at the newest value. */
static inline ring_cells
ring_read_cells(ring_word *pair, int64_t *value)
{
    /* Acquire: pairs with ring_write_cells' release. */
    int64_t counter = ring_load_acquire(pair);
    if (counter == 0) {
        return CELLS_NONE;
    }
    const ring_word *cell = ring_cell(pair, counter);
    for (int word = 0; word < SHM_FORMING_WORDS; word++) {
        value[word] = ring_load(cell + word);
    }
#ifdef RING_WITHOUT_SECOND_LOOK
    return CELLS_WHOLE;
#else
    /* Acquire: pairs with ring_write_cells' fence. */
    atomic_thread_fence(memory_order_acquire);
    return ring_load(pair) == counter ? CELLS_WHOLE : CELLS_OUTRUN;
#endif
}

#endif
