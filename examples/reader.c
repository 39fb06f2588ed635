/* Print the last closed bars of a stream as CSV: reader FEED SYMBOL TIMEFRAME [N]
 *
 *   cc -std=c11 -I"$(python -c 'import shmfeed; print(shmfeed.get_include())')" \
 *      -o reader reader.c
 *
 * The segment is mapped read-only, and the reader never waits for the feeder. The steps
 * R1 to R5 are those of shmfeed/ringbuf.py.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shmfeed_layout.h"

enum { TRIES = 1000, NAMES = SHM_SYMBOL_BYTES + SHM_TIMEFRAME_BYTES };

static const _Atomic int64_t *segment;

#define LOAD(at) atomic_load_explicit(segment + (at), memory_order_relaxed)
#define LOAD_ACQUIRE(at) atomic_load_explicit(segment + (at), memory_order_acquire)
#define FAIL(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), exit(1))

static void
open_feed(const char *feed)
{
    char path[4096];
    struct stat file;

    snprintf(path, sizeof path, "/dev/shm/shmfeed.%u.%s", (unsigned)geteuid(), feed);
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &file) < 0 || file.st_size < SHM_WORD) {
        FAIL("%s: there is no such feed", path);
    }
    segment = mmap(NULL, (size_t)file.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (segment == MAP_FAILED) {
        FAIL("%s: cannot be mapped", path);
    }
    /* Acquire: the writer stores this word last, when the header is complete. */
    int64_t ready = LOAD_ACQUIRE(SHM_H_READY);
    if (ready >> SHM_MAGIC_SHIFT != SHM_MAGIC) {
        FAIL("%s: is not a segment, or not ready", path);
    }
    if (ready != SHM_READY) {
        FAIL("%s: has layout version %d, this reader was compiled for version %d", path,
             (int)(ready & INT32_MAX), (int)SHM_VERSION);
    }
    int64_t size = file.st_size / SHM_WORD;
    int64_t streams = LOAD(SHM_H_STREAMS), slots = LOAD(SHM_H_SLOTS);
    if (size < SHM_HEADER_WORDS || LOAD(SHM_H_SIZE) > file.st_size ||
        LOAD(SHM_H_ENTRY_START) + streams * LOAD(SHM_H_ENTRY_SIZE) > size ||
        LOAD(SHM_H_SLOT_START) + slots * LOAD(SHM_H_SLOT_SIZE) > size ||
        LOAD(SHM_H_COLUMN_SIZE) != 2 * (LOAD(SHM_H_HISTORY) + LOAD(SHM_H_GUARD))) {
        FAIL("%s: is damaged", path);
    }
}

/* The first word of a stream's entry, and the entry's epoch; 0 without the stream. */
static int64_t
find_stream(const char *symbol, const char *timeframe, int64_t *epoch)
{
    char names[NAMES + 1] = {0};

    if (strlen(symbol) > SHM_SYMBOL_BYTES || strlen(timeframe) > SHM_TIMEFRAME_BYTES) {
        return 0;
    }
    memcpy(names, symbol, strlen(symbol));
    memcpy(names + SHM_SYMBOL_BYTES, timeframe, strlen(timeframe));
    /* Acquire: an entry is complete before it is counted. */
    for (int64_t n = LOAD_ACQUIRE(SHM_H_STREAMS); n-- > 0;) {
        int64_t entry = LOAD(SHM_H_ENTRY_START) + n * LOAD(SHM_H_ENTRY_SIZE);
        *epoch = LOAD_ACQUIRE(entry + SHM_E_EPOCH);
        /* An odd epoch: the entry is being given to another stream. */
        if (*epoch % 2 == 0 &&
            !memcmp((const void *)(segment + entry + SHM_E_NAMES), names, NAMES)) {
            return entry;
        }
    }
    return 0;
}

/* Copy the newest `most` rows, column by column. Return their number, or -1 if they did
   not hold: the writer replaced one of them, or gave slot or entry to another stream. */
static int64_t
copy_rows(int64_t entry, int64_t entry_epoch, int64_t most, int64_t *into)
{
    int64_t capacity = LOAD(SHM_H_HISTORY) + LOAD(SHM_H_GUARD);
    int64_t word = LOAD_ACQUIRE(entry + SHM_E_WORD); /* R1 */
    int64_t slot =
        LOAD(SHM_H_SLOT_START) + (word & SHM_SLOT_MASK) * LOAD(SHM_H_SLOT_SIZE);
    int64_t last = LOAD_ACQUIRE(slot + SHM_S_PUBLISHED); /* R2 */
    int64_t base = LOAD(slot + SHM_S_BASE);
    int64_t first = last - most < base ? base : last - most;
    if (word == 0 || first > last) {
        return word == 0 ? 0 : -1;
    }
    int64_t from = slot + SHM_SLOT_HEADER_WORDS + first % capacity;
    for (int column = 0; column < SHM_COLUMNS; column++) { /* R3 */
        for (int64_t row = 0; row < last - first; row++) {
            into[column * most + row] = LOAD(from + column * 2 * capacity + row);
        }
    }
    atomic_thread_fence(memory_order_acquire);          /* R4 */
    int64_t intent = LOAD_ACQUIRE(slot + SHM_S_INTENT); /* R5 */
    bool whole = LOAD(slot + SHM_S_EPOCH) == word >> SHM_SLOT_BITS &&
                 LOAD(entry + SHM_E_EPOCH) == entry_epoch && intent - first <= capacity;
    return whole ? last - first : -1;
}

static bool
is_alive(void)
{
    struct timespec clock;

    clock_gettime(CLOCK_BOOTTIME, &clock);
    int64_t now = clock.tv_sec * 1000000000LL + clock.tv_nsec;
    int64_t tick = now - LOAD(SHM_H_TICK), beat = now - LOAD(SHM_H_ALIVE);
    return (tick >= -SHM_AHEAD_NS && tick <= SHM_DEAD_NS) ||
           (beat >= -SHM_AHEAD_NS && beat <= SHM_DEAD_NS);
}

static void
print_row(const int64_t *cells, int64_t stride)
{
    for (int column = 0; column < SHM_COLUMNS; column++, cells += stride) {
        double value;
        memcpy(&value, cells, sizeof value);
        if (column >= SHM_C_FLOATS && column < SHM_C_FLOATS + SHM_FLOATS) {
            printf("%.17g,", value);
        } else {
            printf("%" PRId64 "%c", *cells, column == SHM_C_FLAGS ? '\n' : ',');
        }
    }
}

int
main(int argc, char **argv)
{
    int64_t most = argc > 4 ? atoll(argv[4]) : 10, rows = -1, epoch;

    if (argc < 4 || most < 1) {
        FAIL("usage: reader FEED SYMBOL TIMEFRAME [N]");
    }
    open_feed(argv[1]);
    most = most < LOAD(SHM_H_HISTORY) ? most : LOAD(SHM_H_HISTORY);
    int64_t *cells = calloc((size_t)most, SHM_COLUMNS * SHM_WORD);
    for (int tries = 0; cells && rows < 0 && tries < TRIES; tries++) {
        int64_t entry = find_stream(argv[2], argv[3], &epoch);
        if (entry == 0) {
            FAIL("feed %s does not carry %s %s", argv[1], argv[2], argv[3]);
        }
        rows = copy_rows(entry, epoch, most, cells);
    }
    if (rows < 0) {
        FAIL("the writer outran each of %d reads; ask for fewer rows", TRIES);
    }
    puts("open_time,close_time,open,high,low,close,volume,money,flags");
    for (int64_t row = 0; row < rows; row++) {
        print_row(cells + row, most);
    }
    if (!is_alive()) {
        fputs("the feeder is dead; these are its last bars\n", stderr);
    }
    return 0;
}
