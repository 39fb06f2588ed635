/* Setting rows aside: the system calls of shmfeed/memory/keeping.py, no Python.
 *
 * The steps K1 to K5 are listed there. A slot that is mapped by itself has an address of
 * its own; keep_move replaces what lies at that address in one step for other threads.
 */
#ifndef SHM_KEEP_H
#define SHM_KEEP_H

#include "protocol.h"

#include <stdlib.h>

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

/* Rows that slices cover: indices [first, last) of each column. */
typedef struct {
    int64_t first;
    int64_t last;
} keep_range;

/* The bytes of a slot: its header and its columns. */
static inline size_t
keep_slot_bytes(int64_t capacity)
{
    int64_t words = SHM_SLOT_HEADER_WORDS + SHM_COLUMNS * 2 * capacity;
    return (size_t)words * SHM_WORD;
}

static int
keep_compare(const void *one, const void *other)
{
    int64_t a = ((const keep_range *)one)->first, b = ((const keep_range *)other)->first;
    return (a > b) - (a < b);
}

/* Sort the ranges and join those that overlap or adjoin. Return how many are left. */
static size_t
keep_join(keep_range *ranges, size_t count)
{
    size_t joined = 0;
    qsort(ranges, count, sizeof *ranges, keep_compare);
    for (size_t i = 0; i < count; i++) {
        if (joined > 0 && ranges[i].first <= ranges[joined - 1].last) {
            if (ranges[i].last > ranges[joined - 1].last) {
                ranges[joined - 1].last = ranges[i].last;
            }
        } else {
            ranges[joined++] = ranges[i];
        }
    }
    return joined;
}

#ifdef __linux__

static inline int64_t
keep_page(void)
{
    return (int64_t)sysconf(_SC_PAGESIZE);
}

/* The bytes of the pages that the joined ranges touch. */
static int64_t
keep_bytes(const ring_slot *slot, const keep_range *ranges, size_t count)
{
    int64_t page = keep_page(), pages = 0, counted = -1;
    for (int column = 0; column < SHM_COLUMNS; column++) {
        int64_t start = SHM_SLOT_HEADER_WORDS + column * ring_stride(slot);
        for (size_t i = 0; i < count; i++) {
            if (ranges[i].first == ranges[i].last) {
                continue;
            }
            int64_t from = (start + ranges[i].first) * SHM_WORD / page;
            int64_t to = (start + ranges[i].last - 1) * SHM_WORD / page;
            if (from <= counted) {
                from = counted + 1;
            }
            pages += to - from + 1;
            counted = to;
        }
    }
    return pages * page;
}

/* Map the slot a second time, read-only. NULL if it is not on a page of a shared
   mapping, or if a limit of this process is reached. */
static void *
keep_duplicate(const ring_slot *slot)
{
    size_t size = keep_slot_bytes(slot->capacity);
    /* An old size of 0 duplicates a shared mapping; no descriptor is needed. */
    void *copy = mremap((void *)slot->header, 0, size, MREMAP_MAYMOVE);
    if (copy == MAP_FAILED) {
        return NULL;
    }
    if (mprotect(copy, size, PROT_READ) < 0) {
        munmap(copy, size);
        return NULL;
    }
    return copy;
}

/* Steps K2 to K4: copy the ranges of `slot`, whose pages have an address of their own,
   and put the copy there. `segment_slot` is the same slot in the whole mapping. False if
   a limit of this process is reached; then nothing has changed. */
static bool
keep_move(const ring_slot *slot, const ring_slot *segment_slot,
          const keep_range *ranges, size_t count)
{
    size_t size = keep_slot_bytes(slot->capacity);
    int64_t stride = ring_stride(slot);
    /* K2: pages that are not touched cost nothing. A huge page would cost 2 MiB for
       each column. */
    int64_t *copy = mmap(NULL, size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (copy == MAP_FAILED) {
        return false;
    }
    madvise(copy, size, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < count; i++) {
        int64_t first = ranges[i].first;
        ring_copy_columns(slot->columns + first, stride, ranges[i].last - first,
                          copy + SHM_SLOT_HEADER_WORDS + first, stride);
    }
    /* K3, K4. */
    if (mprotect(copy, size, PROT_READ) < 0) {
        munmap(copy, size);
        return false;
    }
    void *moved =
        mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, slot->header);
    if (moved == MAP_FAILED) {
        /* The kernel may have removed the old pages before it failed. */
        (void)mremap((void *)segment_slot->header, 0, size,
                     MREMAP_MAYMOVE | MREMAP_FIXED, slot->header);
        munmap(copy, size);
        return false;
    }
    return true;
}

/* Return the memory of rows that were set aside to the kernel: they read as zeros. It
   joins new mappings that adjoin, but none that had pages, and bounds their number. */
static void
keep_empty(const ring_slot *slot)
{
    size_t size = keep_slot_bytes(slot->capacity);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    if (mmap(slot->header, size, PROT_READ, flags, -1, 0) == MAP_FAILED) {
        madvise(slot->header, size, MADV_DONTNEED);
    }
}

static void
keep_unmap(const ring_slot *slot)
{
    munmap(slot->header, keep_slot_bytes(slot->capacity));
}

#else  /* a system without mremap: rows are not set aside */

static inline int64_t
keep_bytes(const ring_slot *slot, const keep_range *ranges, size_t count)
{
    (void)slot, (void)ranges, (void)count;
    return 0;
}

static inline void *
keep_duplicate(const ring_slot *slot)
{
    (void)slot;
    return NULL;
}

static inline bool
keep_move(const ring_slot *slot, const ring_slot *segment_slot,
          const keep_range *ranges, size_t count)
{
    (void)slot, (void)segment_slot, (void)ranges, (void)count;
    return false;
}

static inline void
keep_empty(const ring_slot *slot)
{
    (void)slot;
}

static inline void
keep_unmap(const ring_slot *slot)
{
    (void)slot;
}

#endif

#endif
