/* The context that a thread or task has set: whether a read of the ring alone is right for
   it. `Setting.known` of wealthdata has what Python found at an earlier read; it holds while
   the context's attributes are the same objects. */
#ifndef SHM_OWN_CONTEXT_H
#define SHM_OWN_CONTEXT_H

#include "frame.h"
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
        if (same > 0) {
            same = attribute_is(fact[OWN_CONTEXT], names.current_dt, fact[OWN_MOMENT]);
        }
        bounds->latest = PyLong_AsLongLong(fact[OWN_LATEST]);
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
