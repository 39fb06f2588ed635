/* futex_load and futex_wait, as shmfeed/memory/futex.py defines them. */
#ifndef SHM_FUTEX_H
#define SHM_FUTEX_H

#include "core.h"

#ifdef __linux__

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FUTEX_POLL_NS 1000000

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

/* If a sandbox refuses the call, sleepers poll, so a failed wake does not matter. */
static inline void
futex_wake_all(uint32_t *word, uint32_t mask)
{
    syscall(SYS_futex, word, FUTEX_WAKE_BITSET, INT_MAX, NULL, NULL, mask);
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

#define FUTEX_METHODS                                                                 \
    {"futex_load", futex_load, METH_VARARGS, DOC_futex_load},                         \
    {"futex_wait", futex_wait, METH_VARARGS, DOC_futex_wait},

#else
#define FUTEX_METHODS
#endif

#endif
