/* One ring in memory of its own, and what its rows must be: for programs that try the
 * protocol of _ring.h without Python. tests/compiling.py compiles them, and breaks a line
 * of _ring.h for those that show what would be seen.
 *
 * A cell of a row tells its row, its column and, of a forming bar, its revision: one
 * cell of another row, or of another revision, is seen. */
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

/* How many of the rows, copied to `cells` column by column, are not what they must be. */
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
