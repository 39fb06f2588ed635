/* One ring in private memory, and the rows that it must hold: for programs that try the
 * protocol without Python. tests/support/compiling.py compiles them, with protocol.h as
 * it is or with a mutant of it.
 *
 * Each cell of a row follows from its row, its column and, in a forming bar, its
 * revision: a single cell of another row or revision is found. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol.h"

enum { CAPACITY = 8, MOST = 6, BASE = 3, LATCH = SHM_HEADER_WORDS };
#define SLOT (LATCH + 1 + 2 * SHM_FORMING_WORDS)
#define WORDS (SLOT + SHM_SLOT_HEADER_WORDS + SHM_COLUMNS * 2 * CAPACITY)
#define CATALOG_WORD ((int64_t)5 << SHM_SLOT_BITS)

static inline ring_slot
ring_made(ring_word *segment)
{
    ring_slot slot = ring_slot_at(segment, SLOT, CAPACITY);

    ring_store(slot.header + SHM_S_EPOCH, CATALOG_WORD >> SHM_SLOT_BITS);
    ring_store(slot.header + SHM_S_BASE, BASE);
    ring_store(slot.header + SHM_S_INTENT, BASE);
    ring_store(slot.header + SHM_S_PUBLISHED, BASE);
    return slot;
}

static inline int64_t
cell_of(int64_t row, int64_t revision, int column)
{
    return row * 1000003 + revision * 10007 + column * 101;
}

static inline void
fill(int64_t *cells, int64_t row, int64_t revision)
{
    cells[0] = row;
    cells[1] = revision;
    for (int column = 2; column < SHM_COLUMNS; column++) {
        cells[column] = cell_of(row, revision, column);
    }
}

static inline bool
whole(const int64_t *cells, int64_t row, int64_t revision)
{
    int64_t wanted[SHM_COLUMNS];

    fill(wanted, row, revision);
    return memcmp(cells, wanted, sizeof wanted) == 0;
}

static inline void
append(ring_word *segment, const ring_slot *slot, int64_t row)
{
    int64_t cells[SHM_COLUMNS];

    fill(cells, row, 0);
    ring_append(slot, row, cells, row, segment + SHM_H_MAX_STREAMS,
                segment + SHM_H_TICK, segment + SHM_H_BARS);
}

static inline void
update_forming(ring_word *segment, int64_t row, int64_t revision)
{
    int64_t cells[SHM_COLUMNS];

    fill(cells, row, revision);
    latch_write(segment + LATCH, cells);
}

/* Count the rows, copied to `cells` column by column, that are not as written. */
static inline int64_t
bad_rows(const int64_t *cells, int64_t first, int64_t last)
{
    int64_t bad = 0, row[SHM_COLUMNS];

    for (int64_t number = first; number < last; number++) {
        for (int column = 0; column < SHM_COLUMNS; column++) {
            row[column] = cells[column * MOST + number - first];
        }
        bad += !whole(row, number, 0);
    }
    return bad;
}
