/* Rows and Slice: rows.py defines them. */
#ifndef SHM_ROWS_H
#define SHM_ROWS_H

#include "_core.h"

typedef struct {
    PyObject_HEAD
    PyObject *owner;   /* whose memory it is: a slice's reader, other rows' block */
    ring_word *words;  /* the first row of column 0 */
    int64_t stride;    /* words from column to column */
    int64_t first;
    int64_t last;
    char writable;
    char forming;
} Rows;

typedef struct {
    Rows rows;
    ring_slot slot;
    int64_t word;
} Slice;

static PyTypeObject RowsType;
static PyTypeObject SliceType;
static PyArray_Descr *int64_descr, *float64_descr;

static inline int64_t
rows_len(const Rows *self)
{
    return self->last - self->first;
}

/* An array over `columns` columns from `column` on, of 1 dimension if it is 1 of 1. */
static PyObject *
rows_array(const Rows *self, int column, int columns, int dimensions)
{
    npy_intp shape[2] = {columns, (npy_intp)rows_len(self)};
    npy_intp strides[2] = {(npy_intp)self->stride * SHM_WORD, SHM_WORD};
    PyArray_Descr *descr = is_int_column(column) ? int64_descr : float64_descr;

    Py_INCREF(descr);
    PyObject *array = PyArray_NewFromDescr(
        &PyArray_Type, descr, dimensions, shape + 2 - dimensions,
        strides + 2 - dimensions, (void *)(self->words + column * self->stride),
        self->writable ? NPY_ARRAY_WRITEABLE : 0, NULL);
    if (array == NULL) {
        return NULL;
    }
    Py_INCREF(self->owner);
    if (PyArray_SetBaseObject((PyArrayObject *)array, self->owner) < 0) {
        Py_DECREF(array);
        return NULL;
    }
    return array;
}

/* Private rows, `forming` or not, with room for `count` from number `first` on. */
static Rows *
rows_alloc(int64_t first, int64_t count, bool forming)
{
    npy_intp shape[2] = {SHM_COLUMNS, (npy_intp)count};
    PyObject *block = PyArray_SimpleNew(2, shape, NPY_FLOAT64);
    if (block == NULL) {
        return NULL;
    }
    Rows *self = PyObject_New(Rows, &RowsType);
    if (self == NULL) {
        Py_DECREF(block);
        return NULL;
    }
    self->owner = block;
    self->words = PyArray_DATA((PyArrayObject *)block);
    self->stride = count;
    self->first = first;
    self->last = first + count;
    self->writable = 1;
    self->forming = forming;
    return self;
}

static PyObject *
rows_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"block", "first", "forming", NULL};
    PyObject *block;
    long long first;
    int forming = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!L|p", names, &PyArray_Type,
                                     &block, &first, &forming)) {
        return NULL;
    }
    PyArrayObject *array = (PyArrayObject *)block;
    if (PyArray_TYPE(array) != NPY_FLOAT64 || PyArray_NDIM(array) != 2 ||
        PyArray_DIM(array, 0) != SHM_COLUMNS || !PyArray_ISALIGNED(array) ||
        !PyArray_ISNOTSWAPPED(array) || PyArray_STRIDE(array, 0) % SHM_WORD ||
        (PyArray_DIM(array, 1) > 1 && PyArray_STRIDE(array, 1) != SHM_WORD)) {
        PyErr_Format(PyExc_TypeError, "block must be float64 (%d, n), rows adjacent",
                     (int)SHM_COLUMNS);
        return NULL;
    }
    Rows *self = (Rows *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->owner = Py_NewRef(block);
    self->words = PyArray_DATA(array);
    self->stride = PyArray_STRIDE(array, 0) / SHM_WORD;
    self->first = first;
    self->last = first + PyArray_DIM(array, 1);
    self->writable = PyArray_ISWRITEABLE(array) != 0;
    self->forming = (char)forming;
    return (PyObject *)self;
}

static void
rows_dealloc(Rows *self)
{
    Py_XDECREF(self->owner);
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
    return column < 0 ? NULL : rows_array(self, column, 1, 1);
}

static PyObject *
rows_open_time(Rows *self, void *Py_UNUSED(closure))
{
    return rows_array(self, 0, 1, 1);
}

static PyObject *
rows_close_time(Rows *self, void *Py_UNUSED(closure))
{
    return rows_array(self, 1, 1, 1);
}

static PyObject *
rows_values(Rows *self, void *Py_UNUSED(closure))
{
    return rows_array(self, SHM_C_FLOATS, SHM_VALUES, 2);
}

static PyObject *
rows_floats(Rows *self, void *Py_UNUSED(closure))
{
    return rows_array(self, SHM_C_FLOATS, SHM_FLOATS, 2);
}

static PyObject *
rows_block(Rows *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->owner);
}

static PyObject *
slice_block(Slice *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    PyErr_SetString(PyExc_AttributeError, "a slice has no block of its own");
    return NULL;
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
slice_valid(Slice *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(ring_held(&self->slot, self->word, self->rows.first));
}

static PyObject *
rows_copy(Rows *self, PyObject *Py_UNUSED(none))
{
    int64_t count = rows_len(self);
    Rows *copy = rows_alloc(self->first, count, self->forming);
    if (copy != NULL) {
        ring_copy_columns(self->words, self->stride, count, (int64_t *)copy->words,
                          count);
    }
    return (PyObject *)copy;
}

static PyObject *
rows_bar(Rows *self, PyObject *row)
{
    int64_t cells[SHM_COLUMNS], count = rows_len(self);
    Py_ssize_t place = PyNumber_AsSsize_t(row, PyExc_IndexError);
    if (place == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (place < -count || place >= count) {
        return PyErr_Format(PyExc_IndexError, "row %zd of %lld", place,
                            (long long)count);
    }
    const ring_word *from = self->words + (place < 0 ? place + count : place);
    ring_copy_columns(from, self->stride, 1, cells, 1);
    return make_bar(cells);
}

static PyMethodDef rows_methods[] = {
    {"copy", (PyCFunction)rows_copy, METH_NOARGS,
     "Private rows with the values of now: ask this window's `valid` afterwards."},
    {"bar", (PyCFunction)rows_bar, METH_O,
     "Row `row` of this window: 0 is the oldest, -1 the newest."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef rows_members[] = {
    {"first", T_LONGLONG, offsetof(Rows, first), READONLY, "The first row's number."},
    {"last", T_LONGLONG, offsetof(Rows, last), READONLY, "The last one's, exclusive."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef rows_getset[] = {
    {"open_time", (getter)rows_open_time, NULL, "int64 ms UTC, strictly increasing.",
     NULL},
    {"close_time", (getter)rows_close_time, NULL,
     "int64 ms UTC: open_time plus the timeframe.", NULL},
    {"values", (getter)rows_values, NULL,
     "float64 (5, n): open, high, low, close, volume.", NULL},
    {"floats", (getter)rows_floats, NULL,
     "float64 (6, n): open, high, low, close, volume, money.", NULL},
    {"block", (getter)rows_block, NULL,
     "float64 (9, n): all columns, the int64 ones in their own bits.", NULL},
    {"forming", (getter)rows_forming, NULL,
     "Whether the last row is the unfinished bar.", NULL},
    {"valid", (getter)rows_valid, NULL,
     "Whether the rows are still what they were: private ones always are.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef slice_getset[] = {
    {"block", (getter)slice_block, NULL, "Not of a slice.", NULL},
    {"valid", (getter)slice_valid, NULL,
     "Whether no row of this slice has been, or is being, written over.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PySequenceMethods rows_sequence = {.sq_length = (lenfunc)rows_length};
static PyMappingMethods rows_mapping = {
    .mp_length = (lenfunc)rows_length,
    .mp_subscript = (binaryfunc)rows_getitem,
};

static PyTypeObject RowsType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmfeed.memory._ringbuf.Rows",
    .tp_basicsize = sizeof(Rows),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_doc = "Consecutive bars as columns: private, they do not change.",
    .tp_new = rows_new,
    .tp_dealloc = (destructor)rows_dealloc,
    .tp_methods = rows_methods,
    .tp_members = rows_members,
    .tp_getset = rows_getset,
    .tp_as_sequence = &rows_sequence,
    .tp_as_mapping = &rows_mapping,
};

static PyTypeObject SliceType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmfeed.memory._ringbuf.Slice",
    .tp_basicsize = sizeof(Slice),
    .tp_base = &RowsType,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "Zero-copy rows of a ring: read-only arrays over shared memory.",
    .tp_getset = slice_getset,
};

#endif
