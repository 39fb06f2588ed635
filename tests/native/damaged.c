/* Readers' verbs over words that may say anything: none may leave the ring's memory, nor
 * do what C leaves undefined. argv[1]: how many segments of rubbish. */
#include <stdint.h>

#include "liveness.h"
#include "ring.h"

static uint64_t dice = 1;

static int64_t
rubbish(void)
{
    static const int64_t odd[] = {0, 1, -1, BASE, INT64_MAX, INT64_MIN, INT64_MIN + 1,
                                  INT64_MAX - CAPACITY, CATALOG_WORD};
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    uint64_t thrown = dice >> 33;
    return thrown % 4 ? odd[thrown / 4 % (sizeof odd / sizeof *odd)]
                      : (int64_t)(dice ^ dice << 31);
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
        read += ring_held(&slot, rubbish(), first);
        read += ring_newest(&slot, cells, &row);
        read += ring_held(&slot, rubbish(), row);
        read += ring_read_cells(segment + PAIR, cells) == CELLS_WHOLE;
        read += ring_is_current(segment, rubbish());
        read += ring_is_live(segment, segment + PAIR, rubbish(), rubbish(), &last);
        update_forming(segment, 1, 1);
    }
    printf("segments=%ld read=%lld\n", times, (long long)read);
    free(segment);
    return 0;
}
