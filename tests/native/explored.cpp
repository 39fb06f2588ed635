// The protocol of protocol.h in every execution that C11 permits, by Relacy.
//
// tests/races/test_ring_explored.py makes C++ of protocol.h, whose words become Relacy's and
// whose orderings stay as they are. Rings have one row and few columns, so that the
// executions can be counted out; each row overwrites the one before it.
//
// SCENARIO is a class of those below, COLUMNS the columns of a row. Prints the number of
// executions, and the first one that failed.
#include <relacy/relacy.hpp>

#include <cstdint>
#include <cstdio>

#include "shmfeed_layout.h"
#undef SHM_COLUMNS
#undef SHM_FORMING_WORDS
#define SHM_COLUMNS COLUMNS
#define SHM_FORMING_WORDS COLUMNS

typedef rl::atomic<int64_t> relacy_word;
#define _Static_assert(...)
#define memory_order_relaxed rl::mo_relaxed
#define memory_order_acquire rl::mo_acquire
#define memory_order_release rl::mo_release
#define memory_order_seq_cst rl::mo_seq_cst
#define atomic_load_explicit(word, order) ((word)->load(order, $))
#define atomic_store_explicit(word, value, order) ((word)->store(value, order, $))
#define atomic_thread_fence(order) rl::atomic_thread_fence(order, $)
#include "protocol.h"

enum { CAPACITY = 1, CELLS = SHM_COLUMNS * 2 * CAPACITY };
enum { SLOT = SHM_SLOT_HEADER_WORDS + CELLS, SLOTS = 2 };
enum { LATCH = 1 + 2 * SHM_FORMING_WORDS };

static int64_t
word_of(int64_t epoch, int64_t slot)
{
    return epoch << SHM_SLOT_BITS | slot;
}

// A cell tells its row, its column and its slot's epoch.
static int64_t
cell_of(int64_t epoch, int64_t row, int column)
{
    return epoch * 10000 + row * 100 + column + 1;
}

struct Segment {
    relacy_word catalog, updated, tick, bars;
    relacy_word latch[LATCH];
    relacy_word slots[SLOTS][SLOT];

    ring_slot
    slot(int64_t number)
    {
        return {slots[number], slots[number] + SHM_SLOT_HEADER_WORDS, CAPACITY};
    }

    // Slot 0 has epoch 1 and rows up to `rows`; the others are blank.
    void
    make(int64_t rows)
    {
        for (relacy_word *word : {&catalog, &updated, &tick, &bars}) {
            ring_store(word, 0);
        }
        for (relacy_word &word : latch) {
            ring_store(&word, 0);
        }
        for (auto &each : slots) {
            for (relacy_word &word : each) {
                ring_store(&word, 0);
            }
        }
        ring_store(slots[0] + SHM_S_EPOCH, 1);
        fill(0, 1, rows);
        ring_store(&catalog, word_of(1, 0));
    }

    // S3: the rows and the counts of an epoch.
    void
    fill(int64_t number, int64_t epoch, int64_t rows)
    {
        ring_slot to = slot(number);
        for (int column = 0; column < SHM_COLUMNS; column++) {
            ring_word *cell = to.columns + column * ring_stride(&to);
            ring_store(cell, cell_of(epoch, rows - 1, column));
            ring_store(cell + CAPACITY, cell_of(epoch, rows - 1, column));
        }
        ring_store(to.header + SHM_S_BASE, rows - 1);
        ring_store(to.header + SHM_S_INTENT, rows);
        ring_store(to.header + SHM_S_PUBLISHED, rows);
    }

    void
    append(int64_t number, int64_t epoch, int64_t row)
    {
        ring_slot to = slot(number);
        int64_t cells[SHM_COLUMNS];
        for (int column = 0; column < SHM_COLUMNS; column++) {
            cells[column] = cell_of(epoch, row, column);
        }
        ring_append(&to, row, cells, row, &updated, &tick, &bars);
    }

    // The steps of memory/swap.py. A mutant is made of it like one of protocol.h.
    void
    swap(int64_t number, int64_t epoch, int64_t rows)
    {
        // S1, release.
        atomic_thread_fence(memory_order_seq_cst);
        ring_store(slots[number] + SHM_S_EPOCH, epoch);
        // S2, release: pairs with R4 and R5.
        atomic_thread_fence(memory_order_seq_cst);
        fill(number, epoch, rows);
        // S4, release: pairs with R1.
        ring_store_release(&catalog, word_of(epoch, number));
    }

    // Read the newest row of the slot that `word` names: R2 to R5.
    void
    read(int64_t word)
    {
        ring_slot from = slot(word & SHM_SLOT_MASK);
        int64_t first, last, cells[SHM_COLUMNS], epoch = word >> SHM_SLOT_BITS;
        ring_window(&from, 1, &first, &last);
        ring_copy(&from, last - 1, last, cells, 1);
        if (first >= last || !ring_intact(&from, word, first)) {
            return;
        }
        for (int column = 0; column < SHM_COLUMNS; column++) {
            RL_ASSERT(cells[column] == cell_of(epoch, first, column));
        }
    }
};

// A scenario: a segment of five rows, a writer and a reader.
template <typename Self> struct Scenario : rl::test_suite<Self, 2> {
    Segment segment;
    void before() { segment.make(5); }
};

struct Appends : Scenario<Appends> {
    void
    thread(unsigned number)
    {
        if (number) {
            segment.read(word_of(1, 0));
        } else {
            segment.append(0, 1, 5);
        }
    }
};

struct Counts : Scenario<Counts> {
    void
    thread(unsigned number)
    {
        if (!number) {
            segment.swap(0, 2, 3);  // another stream's rows
            return;
        }
        ring_slot from = segment.slot(0);
        int64_t count;
        if (ring_count(&from, word_of(1, 0), &count)) {
            RL_ASSERT(count == 5);
        }
    }
};

// The slot's rows are overwritten, then the slot is reused with smaller counts.
struct Reuse : Scenario<Reuse> {
    void
    thread(unsigned number)
    {
        if (number) {
            segment.read(word_of(1, 0));
        } else {
            segment.append(0, 1, 5);
            segment.swap(0, 2, 3);
        }
    }
};

// The reader finds the slot by the catalog word, R1.
struct Swap : Scenario<Swap> {
    void
    thread(unsigned number)
    {
        if (number) {
            segment.read(ring_load_acquire(&segment.catalog));
        } else {
            segment.swap(1, 2, 6);
        }
    }
};

struct Latches : Scenario<Latches> {
    void
    thread(unsigned number)
    {
        int64_t value[SHM_FORMING_WORDS];
        if (!number) {
            for (int64_t revision = 1; revision < 4; revision++) {
                value[0] = value[1] = revision;
                latch_write(segment.latch, value);
            }
        } else if (latch_read(segment.latch, value) == LATCH_WHOLE) {
            RL_ASSERT(value[0] == value[1]);
        }
    }
};

int
main()
{
    rl::test_params params;
    params.search_type = rl::sched_full;
    params.progress_stream = params.output_stream;
    params.progress_output_period = 1000000;
    bool right = rl::simulate<SCENARIO>(params);
    printf("right=%d executions=%lu\n", right, (unsigned long)params.stop_iteration);
    return right ? 0 : 1;
}
