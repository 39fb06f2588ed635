/* Rows, as shmfeed/memory/rows.py defines them. */
#ifndef SHM_ROWS_H
#define SHM_ROWS_H

#include "core.h"
#include "protocol.h"

typedef struct {
    PyObject_HEAD
    PyObject *owner;   /* a slice's area; NULL for private rows */
    ring_word *words;  /* the first row of column 0 */
    int64_t stride;    /* words from column to column */
    int64_t first;
    int64_t last;
    int64_t forming;
} Rows;

_Static_assert(sizeof(Rows) % SHM_WORD == 0, "words follow the struct");

enum { OPEN_TIMES, CLOSE_TIMES };  /* columns */

/* A copy of at least so many rows, 1 MiB, is made without the GIL. Releasing it for a
   copy of some microseconds would cost more than it gives. */
#define ROWS_WITHOUT_GIL ((1 << 20) / (SHM_COLUMNS * SHM_WORD))

static PyTypeObject RowsType;
static PyArray_Descr *int64_descr, *float64_descr;

/* Unsigned: the numbers of a damaged segment must not overflow. */
static inline int64_t
rows_len(const Rows *self)
{
    return (int64_t)((uint64_t)self->last - (uint64_t)self->first);
}

static inline const ring_word *
words_of(const Rows *self, int column)
{
    return self->words + column * self->stride;
}

/* Return an array over `columns` columns from `column` on, of 1 or 2 dimensions. */
static PyObject *
rows_array(Rows *self, PyArray_Descr *descr, int column, int columns, int dimensions)
{
    npy_intp shape[2] = {columns, (npy_intp)rows_len(self)};
    npy_intp strides[2] = {(npy_intp)self->stride * SHM_WORD, SHM_WORD};
    Py_INCREF(descr);
    PyObject *array = PyArray_NewFromDescr(
        &PyArray_Type, descr, dimensions, shape + 2 - dimensions,
        strides + 2 - dimensions, (void *)words_of(self, column),
        self->owner == NULL ? NPY_ARRAY_WRITEABLE : 0, NULL);
    if (array == NULL) {
        return NULL;
    }
    /* The base keeps the rows alive: those of a slice are kept as long as it lives. */
    if (PyArray_SetBaseObject((PyArrayObject *)array, Py_NewRef(self)) < 0) {
        Py_DECREF(array);
        return NULL;
    }
    return array;
}

/* Allocate private rows [first, first + count), behind the object itself. */
static Rows *
rows_alloc(int64_t first, int64_t count, bool forming)
{
    size_t size = sizeof(Rows) + (size_t)count * SHM_COLUMNS * SHM_WORD;
    Rows *self = PyObject_Malloc(size);
    if (self == NULL) {
        return (Rows *)PyErr_NoMemory();
    }
    PyObject_Init((PyObject *)self, &RowsType);
    self->owner = NULL;
    self->words = (ring_word *)(self + 1);
    self->stride = count;
    self->first = first;
    self->last = (int64_t)((uint64_t)first + (uint64_t)count);
    self->forming = forming;
    return self;
}

static void
rows_dealloc(Rows *self)
{
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static Py_ssize_t
rows_length(Rows *self)
{
    return (Py_ssize_t)rows_len(self);
}

static PyObject *
rows_getitem(Rows *self, PyObject *field)
{
    int column = column_of(field);
    if (column < 0) {
        return NULL;
    }
    PyArray_Descr *descr = is_int_column(column) ? int64_descr : float64_descr;
    return rows_array(self, descr, column, 1, 1);
}

static PyObject *
rows_open_time(Rows *self, void *Py_UNUSED(closure))
{
    return rows_array(self, int64_descr, OPEN_TIMES, 1, 1);
}

static PyObject *
rows_close_time(Rows *self, void *Py_UNUSED(closure))
{
    return rows_array(self, int64_descr, CLOSE_TIMES, 1, 1);
}

/* This datetime64's units in a millisecond; -1 with the error of per_ms. */
static int64_t
units_per_ms(PyObject *dtype)
{
    if (PyArray_DescrCheck(dtype)) {
        PyArray_Descr *descr = (PyArray_Descr *)dtype;
        if (descr->type_num == NPY_DATETIME && PyArray_ISNBO(descr->byteorder)) {
            const PyArray_DatetimeDTypeMetaData *unit =
                (const PyArray_DatetimeDTypeMetaData *)PyDataType_C_METADATA(descr);
            switch (unit->meta.num == 1 ? unit->meta.base : NPY_FR_ERROR) {
            case NPY_FR_ms:
                return 1;
            case NPY_FR_us:
                return 1000;
            case NPY_FR_ns:
                return 1000000;
            default:
                break;
            }
        }
    }
    Py_XDECREF(call(python.bar, "per_ms", "(O)", dtype));
    if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_RuntimeError, "bar.per_ms and units_per_ms differ");
    }
    return -1;
}

/* The times that label rows, as wealthdata/labels.py defines them, in the order of LABELS. */
typedef enum { LABEL_CLOSE, LABEL_OPEN, LABEL_DATE } row_label;

#define LABEL_DAY 86400000LL

/* The midnight at which the last day of a bar begins. */
static inline int64_t
last_day(int64_t close_time)
{
    int64_t last = ring_minus(close_time, 1), rest = last % LABEL_DAY;
    return ring_minus(last, rest < 0 ? rest + LABEL_DAY : rest);
}

static PyObject *
rows_labels(Rows *self, PyObject *dtype, row_label label)
{
    int64_t scale = units_per_ms(dtype);
    if (scale < 0) {
        return NULL;
    }
    npy_intp count = (npy_intp)rows_len(self);
    Py_INCREF(dtype);
    PyObject *array = PyArray_NewFromDescr(
        &PyArray_Type, (PyArray_Descr *)dtype, 1, &count, NULL, NULL, 0, NULL);
    if (array == NULL) {
        return NULL;
    }
    const ring_word *from =
        words_of(self, label == LABEL_OPEN ? OPEN_TIMES : CLOSE_TIMES);
    int64_t *into = PyArray_DATA((PyArrayObject *)array);
    if (label == LABEL_DATE) {
        for (npy_intp row = 0; row < count; row++) {
            into[row] =
                (int64_t)((uint64_t)last_day(ring_load(from + row)) * (uint64_t)scale);
        }
        return array;
    }
#pragma GCC unroll 8
    for (npy_intp row = 0; row < count; row++) {
        into[row] = (int64_t)((uint64_t)ring_load(from + row) * (uint64_t)scale);
    }
    return array;
}

static PyObject *
rows_datetimes(Rows *self, PyObject *dtype)
{
    return rows_labels(self, dtype, LABEL_CLOSE);
}

/* The months from year 0 to a time in ms UTC, as bar.py counts them. */
static int64_t
month_number(int64_t time)
{
    int64_t days = time / LABEL_DAY - (time % LABEL_DAY < 0) + 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t of_era = days - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * of_year + 2) / 153;  /* from March on: the leap day is the last */
    return (era * 400 + year) * 12 + month + 2;
}

/* The rule of bar.missing_bars: the number of rows missing on a grid of `step` ms, 0 for
   months. */
static uint64_t
missing_rows(const Rows *self, int64_t step)
{
    int64_t count = rows_len(self);
    if (count < 2) {
        return 0;
    }
    const ring_word *time = words_of(self, step == 0 ? OPEN_TIMES : CLOSE_TIMES);
    int64_t first = ring_load(time), last = ring_load(time + count - 1);
    if (step == 0) {
        first = month_number(first);
        last = month_number(last);
        step = 1;
    }
    if (last < first) {  /* a writer may store times off the grid */
        return 0;
    }
    uint64_t steps = ((uint64_t)last - (uint64_t)first) / (uint64_t)step;
    uint64_t taken = (uint64_t)count - 1;
    return steps > taken ? steps - taken : 0;
}

static PyObject *
rows_missing(Rows *self, PyObject *step)
{
    int64_t length;
    if (at_least_1("step", step, &length) < 0) {
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(missing_rows(self, length));
}

static PyObject *
rows_values(Rows *self, void *Py_UNUSED(closure))
{
    return rows_array(self, float64_descr, SHM_C_FLOATS, SHM_VALUES, 2);
}

static PyObject *
rows_floats(Rows *self, void *Py_UNUSED(closure))
{
    return rows_array(self, float64_descr, SHM_C_FLOATS, SHM_FLOATS, 2);
}

static PyObject *
rows_block(Rows *self, void *Py_UNUSED(closure))
{
    return rows_array(self, float64_descr, 0, SHM_COLUMNS, 2);
}

static PyObject *
rows_forming(Rows *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->forming);
}

static PyObject *
rows_valid(Rows *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    Py_RETURN_TRUE;
}

static PyObject *
rows_copy(Rows *self, PyObject *Py_UNUSED(none))
{
    int64_t count = rows_len(self);
    Rows *copy = rows_alloc(self->first, count, self->forming);
    if (copy == NULL) {
        return NULL;
    }
    int64_t *into = (int64_t *)copy->words;
    if (count < ROWS_WITHOUT_GIL) {
        ring_copy_columns(self->words, self->stride, count, into, count);
    } else {
        Py_INCREF(self);
        Py_BEGIN_ALLOW_THREADS
        ring_copy_columns(self->words, self->stride, count, into, count);
        Py_END_ALLOW_THREADS
        Py_DECREF(self);
    }
    return (PyObject *)copy;
}

static PyObject *
rows_bar(Rows *self, PyObject *row)
{
    int64_t cells[SHM_COLUMNS], count = rows_len(self);
    Py_ssize_t index = PyNumber_AsSsize_t(row, PyExc_IndexError);
    if (index == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (index < -count || index >= count) {
        return PyErr_Format(PyExc_IndexError, "row %zd of %lld", index,
                            (long long)count);
    }
    const ring_word *from = self->words + (index < 0 ? index + count : index);
    ring_copy_columns(from, self->stride, 1, cells, 1);
    return make_bar(cells);
}

/* The number of rows `first` to `last` - 1 that have a flag. */
static int64_t
count_flag(const Rows *rows, int64_t flag, int64_t first, int64_t last)
{
    const ring_word *column = words_of(rows, SHM_C_FLAGS) + (first - rows->first);
    int64_t count = 0;
    for (int64_t row = 0; row < last - first; row++) {
        count += (ring_load(column + row) & flag) != 0;
    }
    return count;
}

/* Return for each flag of a tuple how many of the rows `first` to `last` - 1 have it; None
   if these are not all there. */
static PyObject *
count_flags(const Rows *rows, PyObject *flags, int64_t first, int64_t last)
{
    if (first < rows->first || first > last || last > rows->last) {
        Py_RETURN_NONE;
    }
    PyObject *counts = PyTuple_New(PyTuple_GET_SIZE(flags));
    for (Py_ssize_t i = 0; counts != NULL && i < PyTuple_GET_SIZE(flags); i++) {
        int64_t flag;
        PyObject *number = NULL;
        if (as_int64(Py_NewRef(PyTuple_GET_ITEM(flags, i)), &flag) == 0) {
            number = PyLong_FromLongLong(count_flag(rows, flag, first, last));
        }
        if (number == NULL) {
            Py_CLEAR(counts);
        } else {
            PyTuple_SET_ITEM(counts, i, number);
        }
    }
    return counts;
}

static PyObject *
rows_count_flags(Rows *self, PyObject *args)
{
    PyObject *flags;
    long long first, last;
    if (!PyArg_ParseTuple(args, "O!LL", &PyTuple_Type, &flags, &first, &last)) {
        return NULL;
    }
    return count_flags(self, flags, first, last);
}

static PyMethodDef rows_methods[] = {
    {"count_flags", (PyCFunction)rows_count_flags, METH_VARARGS, DOC_Rows_count_flags},
    {"copy", (PyCFunction)rows_copy, METH_NOARGS, DOC_Rows_copy},
    {"bar", (PyCFunction)rows_bar, METH_O, DOC_Rows_bar},
    {"datetimes", (PyCFunction)rows_datetimes, METH_O, DOC_Rows_datetimes},
    {"missing", (PyCFunction)rows_missing, METH_O, DOC_Rows_missing},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef rows_members[] = {
    {"first", T_LONGLONG, offsetof(Rows, first), READONLY, NULL},
    {"last", T_LONGLONG, offsetof(Rows, last), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef rows_getset[] = {
    {"open_time", (getter)rows_open_time, NULL, DOC_Rows_open_time, NULL},
    {"close_time", (getter)rows_close_time, NULL, DOC_Rows_close_time, NULL},
    {"values", (getter)rows_values, NULL, DOC_Rows_values, NULL},
    {"floats", (getter)rows_floats, NULL, DOC_Rows_floats, NULL},
    {"block", (getter)rows_block, NULL, NULL, NULL},
    {"forming", (getter)rows_forming, NULL, NULL, NULL},
    {"valid", (getter)rows_valid, NULL, DOC_Rows_valid, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PySequenceMethods rows_sequence = {.sq_length = (lenfunc)rows_length};
static PyMappingMethods rows_mapping = {
    .mp_length = (lenfunc)rows_length,
    .mp_subscript = (binaryfunc)rows_getitem,
};

static PyTypeObject RowsType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmfeed._ringbuf.Rows",
    .tp_basicsize = sizeof(Rows),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE |
                Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = DOC_Rows,
    .tp_dealloc = (destructor)rows_dealloc,
    .tp_methods = rows_methods,
    .tp_members = rows_members,
    .tp_getset = rows_getset,
    .tp_as_sequence = &rows_sequence,
    .tp_as_mapping = &rows_mapping,
};

#endif
