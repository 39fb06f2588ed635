/* The readers' verbs on words of any value: none may leave the ring's memory or run into
 * undefined behaviour. argv[1] is the number of segments of rubbish. */
#include <stdint.h>

#include "liveness.h"
#include "ring.h"

/* splitmix64: its draws stay independent however many a round takes. */
static uint64_t
draw(void)
{
    static uint64_t state = 1;
    uint64_t z = state += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

static int64_t
rubbish(void)
{
    static const int64_t odd[] = {0, 1, -1, BASE, INT64_MAX, INT64_MIN, INT64_MIN + 1,
                                  INT64_MAX - CAPACITY, CATALOG_WORD};
    uint64_t drawn = draw();
    return drawn % 4 ? odd[drawn / 4 % (sizeof odd / sizeof *odd)] : (int64_t)draw();
}

int
main(int count, char **arguments)
{
    long times = count > 1 ? atol(arguments[1]) : 1000;
    ring_word *segment = calloc(WORDS, SHM_WORD);
    ring_slot slot = ring_slot_at(segment, SLOT, CAPACITY);
    int64_t first, last, row, cells[SHM_COLUMNS * MOST], read = 0;

    for (long time = 0; time < times; time++) {
        for (int64_t word = 0; word < WORDS; word++) {
            ring_store(segment + word, rubbish());
        }
        ring_window(&slot, MOST, &first, &last);
        if (first <= last) {
            ring_copy(&slot, first, last, cells, MOST);
            read++;
        }
        read += ring_intact(&slot, rubbish(), first);
        read += ring_newest(&slot, cells, &row);
        read += ring_intact(&slot, rubbish(), row);
        read += latch_read(segment + LATCH, cells) == LATCH_WHOLE;
        read += ring_is_current(segment, rubbish());
        read += ring_is_live(segment, segment + LATCH, rubbish(), rubbish(), &last);
        update_forming(segment, 1, 1);
    }
    printf("segments=%ld read=%lld\n", times, (long long)read);
    free(segment);
    return 0;
}
