/* ArrayBuilder: a structured array of private rows, as bar_shapes.as_array of wealthdata
   makes it of a frame. */
#ifndef SHM_BAR_ARRAY_H
#define SHM_BAR_ARRAY_H

#include "rows.h"

#define MOST_ARRAY_FIELDS (SHM_COLUMNS + 1)  /* each column, and the date */

typedef struct {
    PyObject_HEAD
    PyArray_Descr *dtype;  /* of 8-byte fields, one after the other */
    PyArray_Descr *plain;  /* the same without fields */
    int fields;
    int column[MOST_ARRAY_FIELDS];
    int64_t scale[MOST_ARRAY_FIELDS];  /* of a date, its units in a millisecond; else 0 */
} ArrayBuilder;

static PyTypeObject ArrayBuilderType;

/* Copy labels into a field. */
static void
array_copy_dates(const Rows *rows, row_label label, int64_t scale, int64_t *cell,
                 int64_t fields)
{
    int64_t count = rows_len(rows);
    const ring_word *from =
        words_of(rows, label == LABEL_OPEN ? OPEN_TIMES : CLOSE_TIMES);
    for (int64_t row = 0; row < count; row++, cell += fields) {
        int64_t time = ring_load(from + row);
        time = label == LABEL_DATE ? last_day(time) : time;
        *cell = (int64_t)((uint64_t)time * (uint64_t)scale);
    }
}

/* Copy the rows into those of an array: field by field, each `fields` words apart. */
static void
array_copy(const ArrayBuilder *self, const Rows *rows, row_label label, int64_t *into)
{
    int64_t count = rows_len(rows), fields = self->fields;
    for (int field = 0; field < fields; field++) {
        int64_t *cell = into + field;
        if (self->scale[field] != 0) {
            array_copy_dates(rows, label, self->scale[field], cell, fields);
            continue;
        }
        const ring_word *from = words_of(rows, self->column[field]);
        for (int64_t row = 0; row < count; row++, cell += fields) {
            *cell = ring_load(from + row);  /* a float's bits too */
        }
    }
}

/* Return a new array, without values. numpy asks each field of the dtype of a new array
   whether it must be cleared, which takes longer than all else here, so the array is made
   without fields and gets its dtype afterwards, as by `array.dtype = dtype`. */
static PyObject *
array_empty(const ArrayBuilder *self, npy_intp count)
{
    Py_INCREF(self->plain);
    PyObject *array = PyArray_NewFromDescr(&PyArray_Type, self->plain, 1, &count, NULL,
                                           NULL, 0, NULL);
    if (array != NULL) {
        PyArrayObject_fields *fields = (PyArrayObject_fields *)array;
        Py_INCREF(self->dtype);
        Py_SETREF(fields->descr, self->dtype);
    }
    return array;
}

/* Return an array of these rows, whose dates are labels of this kind. */
static PyObject *
array_of(const ArrayBuilder *self, const Rows *rows, row_label label)
{
    PyObject *array = array_empty(self, (npy_intp)rows_len(rows));
    if (array == NULL) {
        return NULL;
    }
    int64_t *into = PyArray_DATA((PyArrayObject *)array);
    if (rows_len(rows) < ROWS_WITHOUT_GIL) {
        array_copy(self, rows, label, into);
        return array;
    }
    Py_BEGIN_ALLOW_THREADS
    array_copy(self, rows, label, into);
    Py_END_ALLOW_THREADS
    return array;
}

/* Take the field `name` of the dtype: a date, if it is called so, or a column. */
static int
array_take_field(ArrayBuilder *self, PyObject *name, PyObject *dates)
{
    int at = self->fields++;
    if (PyUnicode_CompareWithASCIIString(name, "date") == 0) {
        self->column[at] = CLOSE_TIMES;
        self->scale[at] = units_per_ms(dates);
        return self->scale[at] < 0 ? -1 : 0;
    }
    self->column[at] = column_of(name);
    self->scale[at] = 0;
    return self->column[at] < 0 ? -1 : 0;
}

/* ArrayBuilder(dtype, plain, fields, dates): the dtype of the arrays, one of the same size
   without fields, the fields' names, and the dtype of a date. */
static PyObject *
array_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *dtype, *plain, *fields, *dates;
    if (!PyArg_ParseTuple(args, "O!O!O!O", &PyArrayDescr_Type, &dtype, &PyArrayDescr_Type,
                          &plain, &PyTuple_Type, &fields, &dates)) {
        return NULL;
    }
    Py_ssize_t count = PyTuple_GET_SIZE(fields);
    if (count > MOST_ARRAY_FIELDS || ((PyArray_Descr *)plain)->type_num != NPY_VOID ||
        PyDataType_ELSIZE((PyArray_Descr *)plain) != count * SHM_WORD ||
        PyDataType_ELSIZE((PyArray_Descr *)dtype) != count * SHM_WORD) {
        PyErr_SetString(PyExc_ValueError, "the dtype is not of these fields");
        return NULL;
    }
    ArrayBuilder *self = (ArrayBuilder *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->dtype = (PyArray_Descr *)Py_NewRef(dtype);
    self->plain = (PyArray_Descr *)Py_NewRef(plain);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (array_take_field(self, PyTuple_GET_ITEM(fields, i), dates) < 0) {
            Py_DECREF(self);
            return NULL;
        }
    }
    return (PyObject *)self;
}

static void
array_dealloc(ArrayBuilder *self)
{
    Py_XDECREF(self->dtype);
    Py_XDECREF(self->plain);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject ArrayBuilderType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmfeed._ringbuf.ArrayBuilder",
    .tp_basicsize = sizeof(ArrayBuilder),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "The builder of structured arrays of one security.",
    .tp_new = array_new,
    .tp_dealloc = (destructor)array_dealloc,
};

#endif
