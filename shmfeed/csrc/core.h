/* Shared by the types of _ringbuf.c: objects of Python, arguments, bars. */
#ifndef SHM_CORE_H
#define SHM_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <numpy/arrayobject.h>

#include <math.h>
#include <string.h>
#include <time.h>

#include "docstrings.h"
#include "liveness.h"

/* Rare work, and the text of each error, stay in Python. */
static struct {
    PyObject *Bar;      /* bar.Bar, a tuple of a row's cells */
    PyObject *numbers;  /* rows.COLUMN_NUMBER: column by field name */
    PyObject *bar;
    PyObject *bar_cells;
    PyObject *validation;
    PyObject *rows;
    PyObject *integrity;
    PyObject *right;
    PyObject *ringbuf;
    PyObject *cutting;
} python;

static const struct {
    PyObject **into;
    const char *module;
    const char *name;  /* NULL for the module itself */
} imports[] = {
    {&python.Bar, "shmfeed.bar", "Bar"},
    {&python.numbers, "shmfeed.memory.rows", "COLUMN_NUMBER"},
    {&python.bar, "shmfeed.bar", NULL},
    {&python.bar_cells, "shmfeed.memory.bar_cells", NULL},
    {&python.validation, "shmfeed.validation", NULL},
    {&python.rows, "shmfeed.memory.rows", NULL},
    {&python.integrity, "shmfeed.memory.integrity", NULL},
    {&python.right, "shmfeed.memory.right", NULL},
    {&python.ringbuf, "shmfeed.ringbuf", NULL},
    {&python.cutting, "shmfeed.cutting", NULL},
};

static int
import_names(void)
{
    for (size_t i = 0; i < sizeof imports / sizeof *imports; i++) {
        PyObject *found = PyImport_ImportModule(imports[i].module);
        if (found != NULL && imports[i].name != NULL) {
            Py_SETREF(found, PyObject_GetAttrString(found, imports[i].name));
        }
        if (found == NULL) {
            return -1;
        }
        Py_XSETREF(*imports[i].into, found);
    }
    return 0;
}

/* Call a function of a module; `format` builds the tuple of arguments. */
static PyObject *
call(PyObject *module, const char *name, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    PyObject *arguments = Py_VaBuildValue(format, values);
    va_end(values);
    PyObject *function = PyObject_GetAttrString(module, name);
    PyObject *answer = function == NULL || arguments == NULL
                           ? NULL
                           : PyObject_CallObject(function, arguments);
    Py_XDECREF(function);
    Py_XDECREF(arguments);
    return answer;
}

static inline int64_t
clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t
boot_ns(void)
{
    return clock_ns(CLOCK_BOOTTIME);
}

#define LAG_NS 100000000

/* An approximate CLOCK_BOOTTIME, at a third of the cost, for the liveness check of each
   read. It lags by a few ms. For up to LAG_NS after a suspend it also lacks the suspended
   time. A heartbeat then appears to lie in the future, ring_is_current is false, and the
   reader takes the exact path. */
static inline int64_t
boot_ns_about(void)
{
    static int64_t boot, coarse = INT64_MIN / 2;
    int64_t passed = clock_ns(CLOCK_MONOTONIC_COARSE) - coarse;
    if (passed > LAG_NS) {
        coarse += passed;
        passed = 0;
        boot = boot_ns();
    }
    return boot + passed;
}

/* Arguments. */

#define MOST_PARAMETERS 9

typedef struct {
    const char *function_name;
    int required;
    int count;
    const char *names[MOST_PARAMETERS];
    PyObject *interned[MOST_PARAMETERS];
} Parameters;

static int
intern_parameters(Parameters *parameters)
{
    for (int i = 0; i < parameters->count; i++) {
        PyObject *name = PyUnicode_InternFromString(parameters->names[i]);
        if (name == NULL) {
            return -1;
        }
        Py_XSETREF(parameters->interned[i], name);
    }
    return 0;
}

static int
index_of_keyword(const Parameters *parameters, PyObject *keyword)
{
    for (int i = 0; i < parameters->count; i++) {
        if (parameters->interned[i] == keyword) {
            return i;
        }
    }
    for (int i = 0; i < parameters->count; i++) {
        int same = PyUnicode_Compare(parameters->interned[i], keyword) == 0;
        if (same) {
            return i;
        }
    }
    PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'",
                 parameters->function_name, keyword);
    return -1;
}

/* Store borrowed references in `into`; the element of an omitted argument is unchanged. */
static int
parse(const Parameters *parameters, PyObject *const *args, Py_ssize_t positional,
      PyObject *keywords, PyObject **into)
{
    if (positional > parameters->count) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d arguments (%zd given)",
                     parameters->function_name, parameters->count, positional);
        return -1;
    }
    for (Py_ssize_t i = 0; i < positional; i++) {
        into[i] = args[i];
    }
    Py_ssize_t named = keywords == NULL ? 0 : PyTuple_GET_SIZE(keywords);
    for (Py_ssize_t i = 0; i < named; i++) {
        int index = index_of_keyword(parameters, PyTuple_GET_ITEM(keywords, i));
        if (index < 0) {
            return -1;
        }
        if (index < positional) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'",
                         parameters->function_name, parameters->names[index]);
            return -1;
        }
        into[index] = args[positional + i];
    }
    for (int i = 0; i < parameters->required; i++) {
        if (into[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'",
                         parameters->function_name, parameters->names[i]);
            return -1;
        }
    }
    return 0;
}

/* 1, 0, or -1 with the error of check_flag. */
static inline int
flag(const char *name, PyObject *value)
{
    if (value == Py_True || value == Py_False) {
        return value == Py_True;
    }
    PyObject *checked = call(python.validation, "check_flag", "(sO)", name, value);
    if (checked == NULL) {
        return -1;
    }
    int answer = PyObject_IsTrue(checked);
    Py_DECREF(checked);
    return answer;
}

/* Convert and release `number`. An int out of range becomes the nearest in range. */
static int
as_int64(PyObject *number, int64_t *value)
{
    if (number == NULL) {
        return -1;
    }
    int overflow;
    *value = PyLong_AsLongLongAndOverflow(number, &overflow);
    Py_DECREF(number);
    if (overflow) {
        *value = overflow > 0 ? INT64_MAX : INT64_MIN;
    }
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

/* Convert an int of at least 1; -1 with the error of check_int. */
static inline int
at_least_1(const char *name, PyObject *number, int64_t *value)
{
    if (PyLong_CheckExact(number)) {
        int overflow;
        *value = PyLong_AsLongLongAndOverflow(number, &overflow);
        if (*value >= 1) {
            return 0;
        }
    }
    PyObject *checked = call(python.validation, "check_int", "(sO)", name, number);
    return as_int64(checked, value);
}

/* Bars. */

static inline double
as_double(int64_t cell)
{
    double value;
    memcpy(&value, &cell, sizeof value);
    return value;
}

static inline int64_t
as_cell(double value)
{
    int64_t cell;
    memcpy(&cell, &value, sizeof cell);
    return cell;
}

static inline int
is_int_column(int column)
{
    return column < SHM_C_FLOATS || column >= SHM_C_FLOATS + SHM_FLOATS;
}

static PyObject *
cell_value(const int64_t *cells, int column)
{
    return is_int_column(column) ? PyLong_FromLongLong(cells[column])
                                 : PyFloat_FromDouble(as_double(cells[column]));
}

static PyObject *
make_bar(const int64_t *cells)
{
    PyTypeObject *type = (PyTypeObject *)python.Bar;
    PyObject *bar = type->tp_alloc(type, SHM_COLUMNS);
    if (bar == NULL) {
        return NULL;
    }
    for (int column = 0; column < SHM_COLUMNS; column++) {
        PyObject *value = cell_value(cells, column);
        if (value == NULL) {
            Py_DECREF(bar);
            return NULL;
        }
        PyTuple_SET_ITEM(bar, column, value);
    }
    return bar;
}

/* The column of a field; -1 with the error that lists the fields. */
static int
column_of(PyObject *field)
{
    PyObject *number =
        PyUnicode_Check(field) ? PyDict_GetItemWithError(python.numbers, field) : NULL;
    if (number != NULL) {
        return (int)PyLong_AsLong(number);
    }
    if (!PyErr_Occurred()) {
        number = call(python.rows, "column_number", "(O)", field);
        if (number != NULL) {  /* neither in the dict nor refused */
            Py_DECREF(number);
            PyErr_SetString(PyExc_RuntimeError,
                            "rows.COLUMN_NUMBER and column_number differ");
        }
    }
    return -1;
}

#endif
