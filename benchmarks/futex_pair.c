/* The latency of a wake by a bare futex, with nothing between it and the kernel.

   futex_pair COUNT PACE_NS: one process stores a bar of 72 bytes with the time in it and
   wakes the other, which copies the bar and reads the clock. A latency a line, in ns. */
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct shared {
    _Atomic unsigned word;
    long long bar[9];
};

static long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static long futex(_Atomic unsigned *word, int operation, unsigned value)
{
    return syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
}

static void sleeper(struct shared *shared, int count)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (unsigned seen = 0; seen < (unsigned)count;) {
        unsigned word = atomic_load_explicit(&shared->word, memory_order_acquire);
        if (word == seen) {
            futex(&shared->word, FUTEX_WAIT, seen);
            continue;
        }
        long long bar[9];
        memcpy(bar, shared->bar, sizeof bar);
        printf("%lld\n", now_ns() - bar[6]);
        seen = word;
    }
    fflush(stdout);
    _exit(0);
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 0;
    long pace = argc > 2 ? atol(argv[2]) : 0;
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (count < 1 || pace < 1 || shared == MAP_FAILED)
        return 2;
    pid_t child = fork();
    if (child < 0)
        return 1;
    if (child == 0)
        sleeper(shared, count);
    struct timespec pause = {pace / 1000000000, pace % 1000000000};
    for (int n = 0; n < count; n++) {
        nanosleep(&pause, NULL);
        shared->bar[6] = now_ns();
        atomic_fetch_add_explicit(&shared->word, 1, memory_order_release);
        futex(&shared->word, FUTEX_WAKE, INT_MAX);
    }
    int status = 0;
    return waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
}
