/* Sleeping on a word and waking its sleepers: futex.py defines both functions. */
#ifndef SHM_FUTEX_H
#define SHM_FUTEX_H

#include "_core.h"

#ifdef __linux__

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The 32-bit word at byte `offset` of a buffer; NULL with an error. */
static uint32_t *
futex_word(PyObject *object, Py_ssize_t offset, int access, Py_buffer *buffer)
{
    if (PyObject_GetBuffer(object, buffer, access) < 0) {
        return NULL;
    }
    char *word = (char *)buffer->buf + offset;
    if (offset < 0 || offset > buffer->len - 4 || (uintptr_t)word % 4) {
        PyBuffer_Release(buffer);
        PyErr_Format(PyExc_ValueError, "there is no 32-bit word at offset %zd of %zd bytes",
                     offset, buffer->len);
        return NULL;
    }
    return (uint32_t *)word;
}

/* Add 1; one thread of one process does. */
static inline void
bump(uint32_t *word)
{
    /* Release: pairs with futex_load's acquire. */
    __atomic_store_n(word, *word + 1, __ATOMIC_RELEASE);
}

/* How many of its sleepers were woken; -1 with errno. */
static inline long
wake(uint32_t *word, uint32_t mask)
{
    return syscall(SYS_futex, word, FUTEX_WAKE_BITSET, INT_MAX, NULL, NULL, mask);
}

/* The kernel's timeout is a moment of CLOCK_MONOTONIC. */
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
    long failed;
    int why;
    struct timespec until = moment_after(timeout < 0 ? 0 : timeout);
    Py_BEGIN_ALLOW_THREADS
    failed = syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected, &until, NULL, mask);
    why = errno;
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&buffer);
    if (failed && why == EINTR && PyErr_CheckSignals() < 0) {
        return NULL;
    }
    if (failed && why != EINTR && why != EAGAIN && why != ETIMEDOUT) {
        errno = why;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyBool_FromLong(!(failed && why == ETIMEDOUT));
}

static PyObject *
futex_wake(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *object;
    Py_ssize_t offset;
    unsigned int mask;
    Py_buffer buffer;
    if (!PyArg_ParseTuple(args, "OnI:futex_wake", &object, &offset, &mask)) {
        return NULL;
    }
    uint32_t *word = futex_word(object, offset, PyBUF_SIMPLE, &buffer);
    if (word == NULL) {
        return NULL;
    }
    long woken = wake(word, mask);
    PyBuffer_Release(&buffer);
    return woken < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(woken);
}

/* A plain access of the word, with its order. */
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
    /* Acquire: pairs with futex_bump's release. */
    uint32_t value = __atomic_load_n(word, __ATOMIC_ACQUIRE);
    PyBuffer_Release(&buffer);
    return PyLong_FromUnsignedLong(value);
}

static PyObject *
futex_bump(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *object;
    Py_ssize_t offset;
    Py_buffer buffer;
    if (!PyArg_ParseTuple(args, "On:futex_bump", &object, &offset)) {
        return NULL;
    }
    uint32_t *word = futex_word(object, offset, PyBUF_WRITABLE, &buffer);
    if (word == NULL) {
        return NULL;
    }
    bump(word);
    PyBuffer_Release(&buffer);
    Py_RETURN_NONE;
}

#define FUTEX_METHODS                                                                 \
    {"futex_load", futex_load, METH_VARARGS, "futex_load(buffer, offset) -> int"},    \
    {"futex_bump", futex_bump, METH_VARARGS, "futex_bump(buffer, offset)"},           \
    {"futex_wait", futex_wait, METH_VARARGS,                                          \
     "futex_wait(buffer, offset, expected, mask, timeout_ns) -> bool"},               \
    {"futex_wake", futex_wake, METH_VARARGS,                                          \
     "futex_wake(buffer, offset, mask) -> int"},

#else
#define FUTEX_METHODS
#endif

#endif
