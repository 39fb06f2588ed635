/* LongBuilder: the long DataFrame of a list of one security, as DirectLongTemplate of
   wealthdata/long_frame.py makes it. */
#ifndef SHM_LONG_FRAME_H
#define SHM_LONG_FRAME_H

#include "frame.h"

enum { TIME_BLOCK, CODE_BLOCK, VALUES_BLOCK, LONG_BLOCKS };

typedef struct {
    PyObject_HEAD
    FrameBuilder *frame;  /* of the fields alone */
    PyObject *block[LONG_BLOCKS];
    PyObject *placement[LONG_BLOCKS];
    PyObject *manager;
    PyObject *times;    /* makes an array of datetimes */
    PyObject *columns;  /* makes their index */
    PyObject *range;    /* makes a RangeIndex of a length */
    PyObject *codes;    /* the function code_column */
    PyObject *symbols;  /* its argument, a tuple */
} LongBuilder;

static PyTypeObject LongBuilderType;

/* Return a (1, n) view of an array of n, whose reference is taken; others as they are. */
static PyObject *
as_one_row(PyObject *array)
{
    if (array == NULL || !PyArray_Check(array)) {
        return array;
    }
    npy_intp shape[2] = {1, PyArray_SIZE((PyArrayObject *)array)};
    PyArray_Dims dims = {shape, 2};
    PyObject *row = PyArray_Newshape((PyArrayObject *)array, &dims, NPY_CORDER);
    Py_DECREF(array);
    return row;
}

/* Return a block over an array, whose reference is taken. */
static PyObject *
long_block(const LongBuilder *self, int which, PyObject *array)
{
    if (array == NULL) {
        return NULL;
    }
    PyObject *given[] = {NULL, array, self->placement[which], names.two};
    PyObject *block = PyObject_Vectorcall(self->block[which], given + 1,
                                          3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(array);
    return block;
}

static PyObject *
long_times(const LongBuilder *self, Rows *rows, row_label label)
{
    PyObject *row = as_one_row(rows_labels(rows, self->frame->dtype, label));
    if (row == NULL) {
        return NULL;
    }
    PyObject *given[] = {NULL, row, self->frame->dtype};
    PyObject *array = PyObject_Vectorcall(self->times, given + 1,
                                          2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(row);
    if (array != NULL && self->frame->has_frequency &&
        PyObject_SetAttr(array, names._freq, Py_None) < 0) {
        Py_CLEAR(array);
    }
    return array;
}

static PyObject *
long_codes(const LongBuilder *self, PyObject *count)
{
    PyObject *given[] = {NULL, self->symbols, count};
    return as_one_row(PyObject_Vectorcall(self->codes, given + 1,
                                          2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL));
}

static PyObject *
long_values(const LongBuilder *self, Rows *rows)
{
    const Span *span = &self->frame->span[0];
    return rows_array(rows, float64_descr, SHM_C_FLOATS + span->first, span->count, 2);
}

static PyObject *
long_blocks(const LongBuilder *self, Rows *rows, row_label label, PyObject *count)
{
    PyObject *blocks = PyTuple_New(LONG_BLOCKS);
    for (int i = 0; i < LONG_BLOCKS && blocks != NULL; i++) {
        PyObject *array = i == TIME_BLOCK   ? long_times(self, rows, label)
                          : i == CODE_BLOCK ? long_codes(self, count)
                                            : long_values(self, rows);
        PyObject *block = long_block(self, i, array);
        if (block == NULL) {
            Py_CLEAR(blocks);
        } else {
            PyTuple_SET_ITEM(blocks, i, block);
        }
    }
    return blocks;
}

static PyObject *
long_manager(const LongBuilder *self, Rows *rows, row_label label)
{
    PyObject *count = PyLong_FromLongLong(rows_len(rows)), *manager = NULL;
    PyObject *blocks = count == NULL ? NULL : long_blocks(self, rows, label, count);
    if (blocks != NULL) {
        PyObject *columns = PyObject_CallNoArgs(self->columns);
        PyObject *index =
            columns == NULL ? NULL : PyObject_CallOneArg(self->range, count);
        manager = make_manager(self->manager, blocks, columns, index);
    }
    Py_XDECREF(blocks);
    Py_XDECREF(count);
    return manager;
}

/* Return the frame of these private rows. */
static PyObject *
long_make(const LongBuilder *self, Rows *rows, row_label label, PyObject *attrs)
{
    return frame_of(self->frame, long_manager(self, rows, label), attrs);
}

static PyObject *
long_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *frame, *block[LONG_BLOCKS], *placement[LONG_BLOCKS];
    PyObject *manager, *times, *columns, *range, *codes, *symbols;
    if (!PyArg_ParseTuple(args, "O!((OO)(OO)(OO))OOOOOO!", &FrameBuilderType, &frame,
                          &block[0], &placement[0], &block[1], &placement[1], &block[2],
                          &placement[2], &manager, &times, &columns, &range, &codes,
                          &PyTuple_Type, &symbols)) {
        return NULL;
    }
    const FrameBuilder *builder = (const FrameBuilder *)frame;
    if (builder->spans != 1 || builder->span[0].step != 1) {
        PyErr_SetString(PyExc_ValueError, "the fields are not adjacent columns");
        return NULL;
    }
    LongBuilder *self = (LongBuilder *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->frame = (FrameBuilder *)Py_NewRef(frame);
    for (int i = 0; i < LONG_BLOCKS; i++) {
        self->block[i] = Py_NewRef(block[i]);
        self->placement[i] = Py_NewRef(placement[i]);
    }
    self->manager = Py_NewRef(manager);
    self->times = Py_NewRef(times);
    self->columns = Py_NewRef(columns);
    self->range = Py_NewRef(range);
    self->codes = Py_NewRef(codes);
    self->symbols = Py_NewRef(symbols);
    return (PyObject *)self;
}

static void
long_dealloc(LongBuilder *self)
{
    Py_XDECREF(self->frame);
    for (int i = 0; i < LONG_BLOCKS; i++) {
        Py_XDECREF(self->block[i]);
        Py_XDECREF(self->placement[i]);
    }
    Py_XDECREF(self->manager);
    Py_XDECREF(self->times);
    Py_XDECREF(self->columns);
    Py_XDECREF(self->range);
    Py_XDECREF(self->codes);
    Py_XDECREF(self->symbols);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject LongBuilderType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmfeed._ringbuf.LongBuilder",
    .tp_basicsize = sizeof(LongBuilder),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "The builder of the long frame of one security.",
    .tp_new = long_new,
    .tp_dealloc = (destructor)long_dealloc,
};

#endif
