/* One writer and two readers, threads on one ring, for at least argv[1] seconds: each row
 * that a reader accepts must be as written.
 *
 * Prints the counts; exits 1 if a row was torn or missing. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

/* Threads rarely meet within a row; a yield now and then makes them. */
static void seldom_yield(void);
#define RING_STORED() seldom_yield()
#undef atomic_load_explicit
#define atomic_load_explicit(word, order) \
    (seldom_yield(), __atomic_load_n(word, order))

#include "ring.h"

enum { READERS = 2, LEAST_ROWS = 20000, LEAST_READS = 2000, LEAST_RACES = 20 };
enum { MOST_TURNS = 30 }; /* of argv[1] seconds */

static _Thread_local uint32_t dice = 1;

static void
seldom_yield(void)
{
    dice = dice * 1664525 + 1013904223;
    if (dice >> 25 == 0) {
        sched_yield();
    }
}

static ring_word *segment;
static ring_slot slot;
static _Atomic bool over;

typedef struct {
    pthread_t thread;
    uint32_t seed;
    int64_t held, lapped, whole, outrun, torn, lost;
    _Atomic bool enough; /* it has raced with the writer, or found a fault */
} reader;

static void *
write_rows(void *unused)
{
    (void)unused;
    for (int64_t row = BASE; !atomic_load_explicit(&over, memory_order_relaxed); row++) {
        for (int64_t revision = 1; revision < 4; revision++) {
            update_forming(segment, row, revision);
        }
        append(segment, &slot, row);
    }
    return NULL;
}

/* Read each cell in place, as a view, or from a copy, as a snapshot. */
static void
read_rows(reader *me, bool copy)
{
    int64_t first, last, cells[SHM_COLUMNS * MOST];

    ring_window(&slot, MOST, &first, &last);
    if (copy) {
        ring_copy(&slot, first, last, cells, MOST);
    }
    else {
        for (int column = 0; column < SHM_COLUMNS; column++) {
            for (int64_t row = first; row < last; row++) {
                cells[column * MOST + row - first] = ring_load(
                    slot.columns + column * ring_stride(&slot) + ring_index(&slot, row));
            }
        }
    }
    if (!ring_intact(&slot, CATALOG_WORD, first)) {
        me->lapped++;
        return;
    }
    me->held += last - first;
    me->torn += bad_rows(cells, first, last);
}

/* Read the forming bar, then the newest row: a bar that closes in between is a row. */
static void
read_newest(reader *me)
{
    int64_t forming[SHM_COLUMNS], closed[SHM_COLUMNS], row;
    latch_state seen = latch_read(segment + LATCH, forming);

    me->outrun += seen == LATCH_OUTRUN;
    if (seen != LATCH_WHOLE) {
        return;
    }
    me->whole++;
    me->torn += !whole(forming, forming[0], forming[1]);
    bool any = ring_newest(&slot, closed, &row);
    if (!ring_intact(&slot, CATALOG_WORD, row)) {
        me->lapped++;
        return;
    }
    me->torn += any && !whole(closed, row, 0);
    me->lost += row < forming[0] - 1;
    int64_t number;
    me->torn += !ring_count(&slot, CATALOG_WORD, &number);
    me->lost += number <= row;
}

static void *
read_all(void *argument)
{
    reader *me = argument;

    dice = me->seed;
    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        read_rows(me, false);
        read_rows(me, true);
        read_newest(me);
        bool raced = me->held > LEAST_READS && me->whole > LEAST_READS
                     && me->lapped > LEAST_RACES && me->outrun > LEAST_RACES;
        if (raced || me->torn || me->lost) {
            atomic_store_explicit(&me->enough, true, memory_order_relaxed);
        }
    }
    return NULL;
}

static bool
enough(reader *readers)
{
    bool all = ring_load(segment + SHM_H_BARS) >= LEAST_ROWS;

    for (int number = 0; number < READERS; number++) {
        all &= atomic_load_explicit(&readers[number].enough, memory_order_relaxed);
    }
    return all;
}

int
main(int count, char **arguments)
{
    double seconds = count > 1 ? atof(arguments[1]) : 1;
    struct timespec pause = {(time_t)seconds, (long)(seconds * 1e9) % 1000000000};
    pthread_t writer;
    reader readers[READERS] = {0}, all = {0};

    segment = calloc(WORDS, SHM_WORD);
    slot = ring_made(segment);
    pthread_create(&writer, NULL, write_rows, NULL);
    for (int number = 0; number < READERS; number++) {
        readers[number].seed = (uint32_t)number + 2;
        pthread_create(&readers[number].thread, NULL, read_all, readers + number);
    }
    int turns = 0;
    do { /* a busy machine may have given the threads almost no time */
        nanosleep(&pause, NULL);
    } while (!enough(readers) && ++turns < MOST_TURNS);
    atomic_store(&over, true);
    pthread_join(writer, NULL);
    for (int number = 0; number < READERS; number++) {
        reader *one = readers + number;
        pthread_join(one->thread, NULL);
        all.held += one->held, all.lapped += one->lapped, all.whole += one->whole;
        all.outrun += one->outrun, all.torn += one->torn, all.lost += one->lost;
    }
    printf("rows=%lld held=%lld lapped=%lld forming=%lld outrun=%lld torn=%lld"
           " lost=%lld\n",
           (long long)ring_load(segment + SHM_H_BARS), (long long)all.held,
           (long long)all.lapped, (long long)all.whole, (long long)all.outrun,
           (long long)all.torn, (long long)all.lost);
    free(segment);
    return all.torn || all.lost;
}
