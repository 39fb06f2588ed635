/* The context that a thread or task has set: whether a read of the ring alone is right for
   it. `Setting.known` of wealthdata has what Python found at an earlier read; it holds while
   the context's attributes are the same objects, but for its time, which may go on. */
#ifndef SHM_OWN_CONTEXT_H
#define SHM_OWN_CONTEXT_H

#include "frame.h"
#include "moment.h"
#include "rows.h"

/* What a context says of a read. */
typedef struct {
    int64_t latest;    /* no row may close later, ms */
    bool has_history;  /* it may have rows before the ring's oldest */
} ContextBounds;

#define NO_BOUNDS ((ContextBounds){INT64_MAX, false})

enum { OWN_CONTEXT, OWN_PARAMS, OWN_KIND, OWN_MOMENT, OWN_LATEST, OWN_HISTORY, OWN_FACTS };

/* 1 if the attribute is this very object, where None stands for a missing one; 0 if not;
   -1 on an error. */
static int
attribute_is(PyObject *object, PyObject *name, const PyObject *expected)
{
    PyObject *found;
#if PY_VERSION_HEX >= 0x030d0000
    int failed = PyObject_GetOptionalAttr(object, name, &found) < 0;
#else
    int failed = _PyObject_LookupAttr(object, name, &found) < 0;
#endif
    int same = (found == NULL ? Py_None : found) == expected;
    Py_XDECREF(found);
    return failed ? -1 : same;
}

/* The same of the type in `run_params`. */
static int
kind_is(PyObject *params, const PyObject *expected)
{
    if (params == Py_None) {
        return 1;
    }
    if (!PyDict_CheckExact(params)) {
        return attribute_is(params, names.type, expected);
    }
    const PyObject *found = PyDict_GetItemWithError(params, names.type);
    return PyErr_Occurred() ? -1 : (found == NULL ? Py_None : found) == expected;
}

/* 1 with the time of the context in `latest`, which comes as that of the moment `known`; 0
   if Python must look at it; -1 on an error. A strategy has another time at each bar. */
static int
context_time(PyObject *context, const PyObject *known, int64_t *latest)
{
    PyObject *found;
#if PY_VERSION_HEX >= 0x030d0000
    int failed = PyObject_GetOptionalAttr(context, names.current_dt, &found) < 0;
#else
    int failed = _PyObject_LookupAttr(context, names.current_dt, &found) < 0;
#endif
    if (failed) {
        return -1;
    }
    int taken = (found == NULL ? Py_None : found) == known;
    if (!taken && found != NULL && PyDateTime_CheckExact(found) &&
        PyDateTime_DATE_GET_TZINFO(found) == Py_None) {
        Moment moment;
        taken = moment_of_datetime(found, &moment);
        if (taken > 0) {
            *latest = moment.ms;
        }
    }
    Py_XDECREF(found);
    return taken;
}

/* 1 with the bounds that this setting's context sets to a read; 0 if Python must ask the
   context; -1 on an error. */
static int
own_context_bounds(PyObject *setting, ContextBounds *bounds)
{
    PyObject *known = PyObject_GetAttr(setting, names.known);
    if (known == NULL) {
        return -1;
    }
    int same = 0;
    if (PyTuple_Check(known) && PyTuple_GET_SIZE(known) == OWN_FACTS) {
        PyObject *const *fact = &PyTuple_GET_ITEM(known, 0);
        same = attribute_is(fact[OWN_CONTEXT], names.run_params, fact[OWN_PARAMS]);
        if (same > 0) {
            same = kind_is(fact[OWN_PARAMS], fact[OWN_KIND]);
        }
        bounds->latest = PyLong_AsLongLong(fact[OWN_LATEST]);
        if (same > 0) {
            same = context_time(fact[OWN_CONTEXT], fact[OWN_MOMENT], &bounds->latest);
        }
        bounds->has_history = fact[OWN_HISTORY] != Py_False;
    }
    Py_DECREF(known);
    return PyErr_Occurred() ? -1 : same;
}

/* True if the context has no part in these rows, of which `asked` were asked for. */
static bool
rows_within(const Rows *rows, int64_t asked, const ContextBounds *bounds)
{
    int64_t found = rows_len(rows);
    if (bounds->has_history && found < asked) {
        return false;
    }
    return found == 0 ||
           ring_load(words_of(rows, CLOSE_TIMES) + found - 1) <= bounds->latest;
}

#endif
