/* LastRead: the newest bar that a prepared read has given to the task that used it last.
   A wait asks what its task has read; wealthdata/handed.py says what a task is. A read that
   the same task repeats costs two comparisons and a store. */
#ifndef SHM_LAST_READ_H
#define SHM_LAST_READ_H

#include "rows.h"

typedef struct {
    PyObject *bars;    /* the task's dict of close times by stream; NULL before the first read */
    uint64_t thread;   /* the task's thread, and its number of changes of the context: */
    uint64_t context;  /*   while both are the same, so is the task */
    int64_t newest;    /* a close time */
    int64_t first;     /* the widest window that the task has read up to its newest row: */
    int64_t end;       /*   numbers, end exclusive; 0 before the first read */
    int64_t word;      /*   the catalog word with their epoch */
    PyObject *own;     /* a copy of the last rows with a forming bar, or NULL */
} LastRead;

static void
last_read_begin(LastRead *last)
{
    *last = (LastRead){.newest = INT64_MIN};
}

static void
last_read_end(LastRead *last)
{
    Py_CLEAR(last->bars);
    Py_CLEAR(last->own);
}

/* Put the newest bar into the task's dict. 0, or -1 on an error. */
static int
last_read_keep(const LastRead *last, PyObject *stream)
{
    if (last->bars == NULL || last->newest == INT64_MIN) {
        return 0;
    }
    PyObject *known = PyDict_GetItemWithError(last->bars, stream);
    if (known == NULL && PyErr_Occurred()) {
        return -1;
    }
    if (known != NULL && PyLong_AsLongLong(known) >= last->newest) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *newest = PyLong_FromLongLong(last->newest);
    int failed = newest == NULL || PyDict_SetItem(last->bars, stream, newest) < 0;
    Py_XDECREF(newest);
    return failed ? -1 : 0;
}

/* Go on with the dict of the current task, which `bars_of_task()` returns. */
static int
last_read_change(LastRead *last, PyObject *stream, PyObject *bars_of_task)
{
    PyObject *bars = PyObject_CallNoArgs(bars_of_task);
    if (bars == NULL || last_read_keep(last, stream) < 0) {
        Py_XDECREF(bars);
        return -1;
    }
    if (!PyDict_CheckExact(bars)) {
        PyErr_SetString(PyExc_TypeError, "the bars of a task are not a dict");
        Py_DECREF(bars);
        return -1;
    }
    if (bars != last->bars) {
        last->newest = INT64_MIN;
        last->end = 0;
        Py_CLEAR(last->own);
    }
    Py_XSETREF(last->bars, bars);
    const PyThreadState *thread = PyThreadState_Get();  /* the call may set a variable */
    last->thread = thread->id;
    last->context = thread->context_ver;
    return 0;
}

/* The close time of the newest closed row, INT64_MIN without one. */
static inline int64_t
newest_close(const Rows *rows)
{
    int64_t count = rows_len(rows) - rows->forming;
    return count == 0 ? INT64_MIN : ring_load(words_of(rows, CLOSE_TIMES) + count - 1);
}

/* Note that the current task has read these rows; `own` is a copy of them if they have a
   forming bar, else NULL. 0, or -1 on an error. */
static int
last_read_note(LastRead *last, PyObject *stream, PyObject *bars_of_task, const Rows *rows,
               int64_t word, PyObject *own)
{
    const PyThreadState *thread = PyThreadState_Get();
    if ((last->bars == NULL || last->thread != thread->id ||
         last->context != thread->context_ver) &&
        last_read_change(last, stream, bars_of_task) < 0) {
        return -1;
    }
    int64_t newest = newest_close(rows), end = rows->last - rows->forming;
    if (newest > last->newest) {
        last->newest = newest;
    }
    if (rows->first < last->first || end != last->end || word != last->word) {
        last->first = rows->first;
        last->end = end;
        last->word = word;
    }
    if (own != NULL) {
        Py_XSETREF(last->own, Py_NewRef(own));
    }
    return 0;
}

#endif
