/* The functions of a sleeper and of a waker, as shmfeed/memory/futex.py defines them. */
#ifndef SHM_FUTEX_H
#define SHM_FUTEX_H

#include "core.h"

#ifdef __linux__

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FUTEX_POLL_NS 1000000
#define LOOKS_BY_CLOCK 64 /* between two looks at the clock */

/* Tell the CPU that this is a loop that waits: it leaves the core's other thread more. */
static inline void
cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* Return the 32-bit word at byte `offset` of a buffer, or NULL with an error. */
static uint32_t *
futex_word(PyObject *object, Py_ssize_t offset, int access, Py_buffer *buffer)
{
    if (PyObject_GetBuffer(object, buffer, access) < 0) {
        return NULL;
    }
    uintptr_t start = (uintptr_t)buffer->buf;
    if (offset < 0 || offset > buffer->len - 4 || (start + (size_t)offset) % 4) {
        PyBuffer_Release(buffer);
        PyErr_Format(PyExc_ValueError, "there is no 32-bit word at offset %zd of %zd bytes",
                     offset, buffer->len);
        return NULL;
    }
    return (uint32_t *)((char *)buffer->buf + offset);
}

/* The kernel's timeout is an absolute CLOCK_MONOTONIC time. */
static struct timespec
moment_after(long long nanoseconds)
{
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    long long ns = moment.tv_nsec + nanoseconds % 1000000000;
    moment.tv_sec += nanoseconds / 1000000000 + ns / 1000000000;
    moment.tv_nsec = ns % 1000000000;
    return moment;
}

/* Sleep while the word is as expected; return 0 if woken, else the errno. */
static int
futex_sleep(uint32_t *word, uint32_t expected, uint32_t mask, int64_t nanoseconds)
{
    struct timespec until = moment_after(nanoseconds < 0 ? 0 : nanoseconds);
    long failed =
        syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected, &until, NULL, mask);
    int why = failed ? errno : 0;
    if (why == ENOSYS || why == EPERM) {
        /* A sandbox refuses the call: sleep briefly; the caller checks again. */
        bool rest = nanoseconds > FUTEX_POLL_NS;
        until = moment_after(rest ? FUTEX_POLL_NS : nanoseconds);
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        why = rest ? 0 : ETIMEDOUT;
    }
    return why;
}

/* The result of futex_wait for the errno of a sleep: 1, 0, or -1 with an error. */
static int
futex_answer(int why)
{
    if (why == ETIMEDOUT) {
        return 0;
    }
    if (why == 0 || why == EAGAIN) {
        return 1;
    }
    if (why == EINTR) {
        return PyErr_CheckSignals() < 0 ? -1 : 1;
    }
    errno = why;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

static PyObject *
futex_wait(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *object;
    Py_ssize_t offset;
    unsigned int expected, mask;
    long long timeout;
    Py_buffer buffer;
    if (!PyArg_ParseTuple(args, "OnIIL:futex_wait", &object, &offset, &expected, &mask,
                          &timeout)) {
        return NULL;
    }
    uint32_t *word = futex_word(object, offset, PyBUF_SIMPLE, &buffer);
    if (word == NULL) {
        return NULL;
    }
    int why;
    Py_BEGIN_ALLOW_THREADS
    why = futex_sleep(word, expected, mask, timeout);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&buffer);
    int woken = futex_answer(why);
    return woken < 0 ? NULL : PyBool_FromLong(woken);
}

#define FEW_SLEEPERS 16

/* Wake all sleepers of these bits. Each of them costs microseconds, so the rest of a herd
   is woken without the GIL; a second call for a few would cost more than it frees. If a
   sandbox refuses the call, sleepers poll, so a failed wake does not matter. */
static inline void
futex_wake_all(uint32_t *word, uint32_t mask)
{
    long woken =
        syscall(SYS_futex, word, FUTEX_WAKE_BITSET, FEW_SLEEPERS, NULL, NULL, mask);
    if (woken == FEW_SLEEPERS) {
        Py_BEGIN_ALLOW_THREADS
        syscall(SYS_futex, word, FUTEX_WAKE_BITSET, INT_MAX, NULL, NULL, mask);
        Py_END_ALLOW_THREADS
    }
}

/* W1, acquire: pairs with N2. */
static inline uint32_t
word_load(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* N2, release: pairs with W1. */
static inline void
word_bump(uint32_t *word)
{
    __atomic_store_n(word, *word + 1, __ATOMIC_RELEASE);
}

static PyObject *
futex_load(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *object;
    Py_ssize_t offset;
    Py_buffer buffer;
    if (!PyArg_ParseTuple(args, "On:futex_load", &object, &offset)) {
        return NULL;
    }
    uint32_t *word = futex_word(object, offset, PyBUF_SIMPLE, &buffer);
    if (word == NULL) {
        return NULL;
    }
    uint32_t value = word_load(word);
    PyBuffer_Release(&buffer);
    return PyLong_FromUnsignedLong(value);
}

/* Several words. */

typedef struct {
    uint32_t *word;
    uint32_t expected;
    Py_buffer buffer;
} Watched;

typedef struct {
    Watched *words;
    Py_ssize_t count;
} WatchedWords;

static void
watched_release(WatchedWords *all)
{
    for (Py_ssize_t i = 0; i < all->count; i++) {
        PyBuffer_Release(&all->words[i].buffer);
    }
    PyMem_Free(all->words);
}

static int
watched_add(WatchedWords *all, PyObject *item)
{
    PyObject *object;
    Py_ssize_t offset;
    Watched *next = all->words + all->count;
    if (!PyTuple_Check(item)) {
        PyErr_SetString(PyExc_TypeError, "a word is a buffer, an offset and a value");
        return -1;
    }
    if (!PyArg_ParseTuple(item, "OnI", &object, &offset, &next->expected)) {
        return -1;
    }
    next->word = futex_word(object, offset, PyBUF_SIMPLE, &next->buffer);
    if (next->word == NULL) {
        return -1;
    }
    all->count++;
    return 0;
}

/* Take the words of a sequence; release them afterwards. */
static int
watched_take(WatchedWords *all, PyObject *sequence)
{
    PyObject *items = PySequence_Fast(sequence, "words must be a sequence");
    if (items == NULL) {
        return -1;
    }
    Py_ssize_t count = PySequence_Fast_GET_SIZE(items);
    int failed = 0;
    all->count = 0;
    all->words = PyMem_Calloc((size_t)count + 1, sizeof *all->words);
    if (all->words == NULL) {
        PyErr_NoMemory();
        failed = -1;
    }
    for (Py_ssize_t i = 0; i < count && !failed; i++) {
        failed = watched_add(all, PySequence_Fast_GET_ITEM(items, i));
    }
    Py_DECREF(items);
    if (failed && all->words != NULL) {
        watched_release(all);
    }
    return failed;
}

static bool
watched_changed(const WatchedWords *all)
{
    for (Py_ssize_t i = 0; i < all->count; i++) {
        if (word_load(all->words[i].word) != all->words[i].expected) {
            return true;
        }
    }
    return false;
}

static inline bool
is_before(const struct timespec *until)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec < until->tv_sec ||
           (now.tv_sec == until->tv_sec && now.tv_nsec < until->tv_nsec);
}

/* The results of these are those of futex_sleep. */
static int
watched_poll(const WatchedWords *all, struct timespec until)
{
    while (!watched_changed(all)) {
        struct timespec next = moment_after(FUTEX_POLL_NS);
        if (!is_before(&until)) {
            return ETIMEDOUT;
        }
        bool last = next.tv_sec > until.tv_sec ||
                    (next.tv_sec == until.tv_sec && next.tv_nsec > until.tv_nsec);
        int why = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, last ? &until : &next,
                                  NULL);
        if (why == EINTR) {
            return why;
        }
    }
    return 0;
}

#define MOST_WORDS 128

#if defined(FUTEX_32) && defined(SYS_futex_waitv)
static int
watched_sleep(const WatchedWords *all, struct timespec until)
{
    struct futex_waitv waiters[MOST_WORDS];
    if (all->count > MOST_WORDS) {
        return watched_poll(all, until);
    }
    memset(waiters, 0, (size_t)all->count * sizeof *waiters);
    for (Py_ssize_t i = 0; i < all->count; i++) {
        waiters[i].val = all->words[i].expected;
        waiters[i].uaddr = (uintptr_t)all->words[i].word;
        waiters[i].flags = FUTEX_32;
    }
    long woken = syscall(SYS_futex_waitv, waiters, (unsigned)all->count, 0, &until,
                         CLOCK_MONOTONIC);
    int why = woken < 0 ? errno : 0;
    return why == ENOSYS || why == EPERM ? watched_poll(all, until) : why;
}
#else /* the headers are those of a kernel before 5.16 */
static int
watched_sleep(const WatchedWords *all, struct timespec until)
{
    return watched_poll(all, until);
}
#endif

/* Look at the words without sleeping. */
static int
watched_spin(const WatchedWords *all, struct timespec until)
{
    for (;;) {
        for (int i = 0; i < LOOKS_BY_CLOCK; i++) {
            if (watched_changed(all)) {
                return 0;
            }
            cpu_relax();
        }
        if (!is_before(&until)) {
            return ETIMEDOUT;
        }
    }
}

static PyObject *
watch(PyObject *args, const char *format,
      int (*wait)(const WatchedWords *, struct timespec))
{
    PyObject *sequence;
    long long timeout;
    WatchedWords all;
    if (!PyArg_ParseTuple(args, format, &sequence, &timeout) ||
        watched_take(&all, sequence) < 0) {
        return NULL;
    }
    int why;
    Py_BEGIN_ALLOW_THREADS
    why = wait(&all, moment_after(timeout < 0 ? 0 : timeout));
    Py_END_ALLOW_THREADS
    watched_release(&all);
    int woken = futex_answer(why);
    return woken < 0 ? NULL : PyBool_FromLong(woken);
}

static PyObject *
futex_wait_any(PyObject *Py_UNUSED(module), PyObject *args)
{
    return watch(args, "OL:futex_wait_any", watched_sleep);
}

static PyObject *
futex_spin(PyObject *Py_UNUSED(module), PyObject *args)
{
    return watch(args, "OL:futex_spin", watched_spin);
}

#define FUTEX_METHODS                                                                 \
    {"futex_load", futex_load, METH_VARARGS, DOC_futex_load},                         \
    {"futex_wait", futex_wait, METH_VARARGS, DOC_futex_wait},                         \
    {"futex_wait_any", futex_wait_any, METH_VARARGS, DOC_futex_wait_any},             \
    {"futex_spin", futex_spin, METH_VARARGS, DOC_futex_spin},

#else
#define FUTEX_METHODS
#endif

#endif
