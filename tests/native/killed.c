/* A writer dies at its first store, at its second, .. at its last. The rows that it
 * leaves must be whole, and a successor must be able to continue them.
 *
 * Prints the number of deaths; exits 1 if one left a row torn, lost or doubled. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void one_store_less(void);
#define RING_STORED() one_store_less()

#include "ring.h"

enum { BEFORE = 5, ROWS = 2 * CAPACITY, REVISIONS = 2 };

static long left; /* stores until death, 0 for never */

static void
one_store_less(void)
{
    if (left && --left == 0) {
        kill(getpid(), SIGKILL);
    }
}

/* `*done`, in shared memory too, is the number of the next row. */
static void
write_all(ring_word *segment, const ring_slot *slot, ring_word *done)
{
    for (int64_t row = BASE + BEFORE; row < BASE + BEFORE + ROWS; row++) {
        for (int64_t revision = 1; revision <= REVISIONS; revision++) {
            update_forming(segment, row, revision);
        }
        append(segment, slot, row);
        atomic_store(done, row + 1);
    }
}

static int64_t
bad(ring_word *segment, const ring_slot *slot, int64_t least, int64_t most)
{
    int64_t first, last, row, cells[SHM_COLUMNS * MOST], wrong = 0;

    ring_window(slot, MOST, &first, &last);
    wrong += last < least || last > most || last - first > MOST;
    ring_copy(slot, first, last, cells, MOST);
    wrong += bad_rows(cells, first, last);
    wrong += !ring_intact(slot, CATALOG_WORD, first);
    wrong += !ring_newest(slot, cells, &row) || !whole(cells, row, 0) || row != last - 1;
    switch (latch_read(segment + LATCH, cells)) {
    case LATCH_WHOLE:
        /* The bar of the last row, or of the next one. */
        wrong += !whole(cells, cells[0], cells[1]);
        wrong += cells[0] < last - 1 || cells[0] > last;
        break;
    case LATCH_EMPTY:
        break;
    case LATCH_OUTRUN:
        wrong++;
    }
    return wrong;
}

static int64_t
die_at(long step, bool *survived)
{
    int protection = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_ANONYMOUS;
    ring_word *segment = mmap(NULL, (WORDS + 1) * SHM_WORD, protection, flags, -1, 0);
    ring_word *done = segment + WORDS;
    ring_slot slot = ring_made(segment);
    int64_t wrong = 0;

    for (int64_t row = BASE; row < BASE + BEFORE; row++) {
        update_forming(segment, row, 1);
        append(segment, &slot, row);
    }
    atomic_store(done, BASE + BEFORE);
    pid_t writer = fork();
    if (writer == 0) {
        left = step;
        write_all(segment, &slot, done);
        _exit(0);
    }
    int status;
    waitpid(writer, &status, 0);
    *survived = WIFEXITED(status);
    int64_t came = atomic_load(done);
    wrong += bad(segment, &slot, came, came + 1);
    /* The successor continues from the published rows. */
    int64_t row = ring_load(slot.header + SHM_S_PUBLISHED);
    update_forming(segment, row, 9);
    append(segment, &slot, row);
    wrong += bad(segment, &slot, row + 1, row + 1);
    munmap(segment, (WORDS + 1) * SHM_WORD);
    return wrong;
}

int
main(void)
{
    bool survived = false;
    long step = 0;
    int64_t wrong = 0;

    while (!survived) {
        wrong += die_at(++step, &survived);
    }
    printf("deaths=%ld wrong=%lld\n", step - 1, (long long)wrong);
    return wrong != 0;
}
