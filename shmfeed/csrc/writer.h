/* RingWriter, as shmfeed/ringbuf.py defines it. */
#ifndef SHM_WRITER_H
#define SHM_WRITER_H

#include "reader.h"

typedef struct {
    PyObject_HEAD
    PyObject *symbol;
    PyObject *timeframe;
    PyObject *reader;
    PyObject *wake;
    PyObject *index;
    PyObject *right;
    Py_buffer buffer;
    Py_buffer right_buffer;
    const ring_word *right_word;
    ring_word *segment;
    ring_word *entry;
    ring_slot slot;
    int64_t row;
    int64_t last_open;
    int64_t step;  /* ms from open to close; 0 for a calendar timeframe */
} Writer;

#define VALUES_COUNT SHM_FLOATS /* open .. money */
enum { OPEN_TIME, VALUES, FLAGS = VALUES + VALUES_COUNT, WAKE, PARAMETERS };

#define BAR_PARAMETERS                                                                \
    {"open_time", "open", "high", "low", "close", "volume", "money", "flags", "wake"}
static Parameters append_parameters = {"append", 6, PARAMETERS, BAR_PARAMETERS, {0}};
static Parameters update_parameters = {"update_forming", 6, PARAMETERS, BAR_PARAMETERS,
                                       {0}};

/* The word of a writer that is closed, or not complete yet. */
static const ring_word no_right = 0;

/* True while this process may write and no other writer took the segment. The word comes
   first: once it is 0 the segment may be truncated, and a load from it raises SIGBUS. */
static inline int
writer_may_write(const Writer *self)
{
    int64_t epoch = ring_load(self->right_word);
    return epoch > 0 && epoch == ring_load(self->segment + SHM_H_WRITER_EPOCH);
}

/* True if the rows are still those that this writer published. */
static inline int
writer_owns_rows(const Writer *self)
{
    return ring_load(self->slot.header + SHM_S_PUBLISHED) == self->row;
}

/* Set the error of a store that is refused. Steals `opened`. */
static int
writer_refuse(Writer *self, PyObject *opened)
{
    PyObject *stream = PyUnicode_FromFormat("%U %U", self->symbol, self->timeframe);
    long long published = ring_load(self->right_word)
                              ? ring_load(self->slot.header + SHM_S_PUBLISHED)
                              : 0;
    PyObject *found = opened == NULL || stream == NULL
                          ? NULL
                          : call(python.right, "refuse_append", "(OOOLLL)", self->right,
                                 stream, opened, (long long)self->last_open, published,
                                 (long long)self->row);
    if (found != NULL) {  /* no code ran since the test, so it finds the reason too */
        Py_DECREF(found);
        PyErr_SetString(PyExc_RuntimeError, "a bar was refused for no reason");
    }
    Py_XDECREF(stream);
    Py_XDECREF(opened);
    return -1;
}

/* Store the open and the close time of a bar in its cells. */
static int
writer_times(Writer *self, PyObject *open_time, int64_t *cells)
{
    PyObject *number = PyLong_CheckExact(open_time)
                           ? Py_NewRef(open_time)
                           : call(python.bar_cells, "check_time", "(O)", open_time);
    if (as_int64(Py_XNewRef(number), &cells[0]) < 0) {
        Py_XDECREF(number);
        return -1;
    }
    if (cells[0] <= self->last_open || cells[0] >= SHM_TIME_LIMIT ||
        ring_load(self->right_word) == 0) {
        return writer_refuse(self, number);
    }
    Py_DECREF(number);
    if (self->step) {
        cells[1] = cells[0] + self->step;
        return 0;
    }
    return as_int64(call(python.bar_cells, "checked_close_time", "(LO)", (long long)cells[0],
                         self->timeframe),
                    &cells[1]);
}

/* Turn the error of a value's conversion into BadArgumentError. */
static void
refuse_values(PyObject *const *given)
{
    PyObject *type, *cause, *trace;
    if (!PyErr_ExceptionMatches(PyExc_TypeError) &&
        !PyErr_ExceptionMatches(PyExc_ValueError) &&
        !PyErr_ExceptionMatches(PyExc_OverflowError)) {
        return;
    }
    PyErr_Fetch(&type, &cause, &trace);
    PyErr_NormalizeException(&type, &cause, &trace);
    PyObject *values = PyList_New(0);
    for (int i = VALUES; values != NULL && i <= FLAGS; i++) {
        if (given[i] != NULL && PyList_Append(values, given[i]) < 0) {
            Py_CLEAR(values);
        }
    }
    PyObject *error = values == NULL
                          ? NULL
                          : call(python.bar_cells, "bad_values", "(N)", values);
    if (error != NULL) {
        if (trace != NULL) {
            PyException_SetTraceback(cause, trace);
        }
        PyException_SetCause(error, Py_XNewRef(cause));
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    Py_XDECREF(type);
    Py_XDECREF(cause);
    Py_XDECREF(trace);
}

static int
writer_flags(PyObject *flags, int64_t *cell)
{
    PyObject *number = PyNumber_Index(flags);
    if (number == NULL) {
        return -1;
    }
    *cell = PyLong_AsLongLong(number);
    Py_DECREF(number);
    return *cell == -1 && PyErr_Occurred() ? -1 : 0;
}

/* Convert all cells of a bar, and test that the writer may store them; -1 with the error
   that ringbuf.py raises. Conversion runs a value's own code, so the test comes last. */
static int
writer_cells(Writer *self, PyObject *const *given, int64_t *cells)
{
    if (writer_times(self, given[OPEN_TIME], cells) < 0) {
        return -1;
    }
    for (int i = 0; i < VALUES_COUNT; i++) {
        PyObject *value = given[VALUES + i];
        double number = value == NULL ? NAN : PyFloat_AsDouble(value);
        if (number == -1.0 && PyErr_Occurred()) {
            refuse_values(given);
            return -1;
        }
        cells[SHM_C_FLOATS + i] = as_cell(number);
    }
    cells[SHM_C_FLAGS] = 0;
    if (given[FLAGS] != NULL && writer_flags(given[FLAGS], cells + SHM_C_FLAGS) < 0) {
        refuse_values(given);
        return -1;
    }
    return cells[0] > self->last_open && writer_may_write(self)
               ? 0
               : writer_refuse(self, PyLong_FromLongLong(cells[0]));
}

static PyObject *
writer_append(Writer *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    PyObject *given[PARAMETERS] = {NULL};
    int64_t cells[SHM_COLUMNS];

    given[WAKE] = Py_True;
    if (parse(&append_parameters, args, count, names, given) < 0) {
        return NULL;
    }
    int wake = flag("wake", given[WAKE]);
    if (wake < 0 || writer_cells(self, given, cells) < 0) {
        return NULL;
    }
    if (!writer_owns_rows(self)) {  /* no code ran since the test of writer_cells */
        writer_refuse(self, PyLong_FromLongLong(cells[0]));
        return NULL;
    }
    ring_append(&self->slot, self->row, cells, boot_ns(), self->entry + SHM_E_UPDATED,
                self->segment + SHM_H_TICK, self->segment + SHM_H_BARS);
    self->row++;
    self->last_open = cells[0];
    if (wake) {
        PyObject *woken = PyObject_CallOneArg(self->wake, self->index);
        if (woken == NULL) {
            return NULL;
        }
        Py_DECREF(woken);
    }
    Py_RETURN_NONE;
}

static PyObject *
writer_update_forming(Writer *self, PyObject *const *args, Py_ssize_t count,
                      PyObject *names)
{
    PyObject *given[PARAMETERS] = {NULL};
    int64_t cells[SHM_COLUMNS];

    if (parse(&update_parameters, args, count, names, given) < 0 ||
        writer_cells(self, given, cells) < 0) {
        return NULL;
    }
    latch_write(self->entry + SHM_E_FORMING, cells);
    int64_t now = boot_ns();
    ring_store(self->entry + SHM_E_UPDATED, now);
    ring_store(self->segment + SHM_H_TICK, now);
    Py_RETURN_NONE;
}

static int
writer_set_right(Writer *self, PyObject *right)
{
    PyObject *word = PyObject_GetAttrString(right, "word");
    Py_buffer buffer;
    int bound = word == NULL ? -1 : PyObject_GetBuffer(word, &buffer, PyBUF_SIMPLE);
    Py_XDECREF(word);
    if (bound < 0) {
        return -1;
    }
    if (buffer.len < SHM_WORD || (uintptr_t)buffer.buf % SHM_WORD) {
        PyBuffer_Release(&buffer);
        PyErr_SetString(PyExc_ValueError, "a right's word must be 8 aligned bytes");
        return -1;
    }
    Py_buffer former = self->right_buffer;
    self->right_buffer = buffer;
    self->right_word = buffer.buf;
    if (former.obj != NULL) {
        PyBuffer_Release(&former);
    }
    Py_XSETREF(self->right, Py_NewRef(right));
    return 0;
}

static PyObject *
writer_enter_slot(Writer *self, PyObject *args)
{
    long long before, word, row, last_open;
    int64_t at;
    if (!PyArg_ParseTuple(args, "LLLL:_enter_slot", &before, &word, &row, &last_open)) {
        return NULL;
    }
    Reader *reader = (Reader *)self->reader;
    PyObject *found = PyObject_CallMethod(reader->geometry, "slot_word", "L",
                                          word & SHM_SLOT_MASK);
    if (as_int64(found, &at) < 0) {
        return NULL;
    }
    int owned = writer_may_write(self) && writer_owns_rows(self);
    if (owned && self->row != before) {
        Py_RETURN_FALSE;
    }
    if (!owned) {
        writer_refuse(self, PyLong_FromLongLong(SHM_TIME_LIMIT - 1));
        return NULL;
    }
    /* S4, release: pairs with R1. */
    ring_store_release(self->entry + SHM_E_WORD, word);
    self->slot = ring_slot_at(self->segment, at, self->slot.capacity);
    self->row = row;
    self->last_open = last_open;
    Py_RETURN_TRUE;
}

static PyObject *
writer_close(Writer *self, PyObject *Py_UNUSED(none))
{
    PyObject *ended = PyObject_GetAttrString(python.right, "ENDED");
    int set = ended == NULL ? -1 : writer_set_right(self, ended);
    Py_XDECREF(ended);
    if (set < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
writer_reduce(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(none))
{
    PyObject *error = call(python.right, "not_copied", "(s)", "RingWriter");
    if (error != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return NULL;
}

/* Continue after the last writer's rows. */
static int
writer_bind(Writer *self, PyObject *words, PyObject *geometry)
{
    int64_t cells[SHM_COLUMNS];
    PyObject *checked = call(python.ringbuf, "check_writable", "(O)", words);
    Py_XDECREF(checked);
    self->reader = checked == NULL
                       ? NULL
                       : PyObject_CallFunctionObjArgs((PyObject *)&ReaderType, words,
                                                      geometry, self->index, NULL);
    if (self->reader == NULL) {
        return -1;
    }
    PyObject *raw = PyObject_GetAttrString(words, "raw");
    if (raw == NULL) {
        return -1;
    }
    int bound = PyObject_GetBuffer(raw, &self->buffer, PyBUF_WRITABLE);
    Py_DECREF(raw);
    if (bound < 0 ||
        as_int64(call(python.bar, "step", "(O)", self->timeframe), &self->step) < 0) {
        return -1;
    }
    Reader *reader = (Reader *)self->reader;
    int found = reader_newest(reader, cells);
    if (found < 0) {
        return -1;
    }
    self->last_open = found ? cells[0] : -1;
    self->segment = reader->segment;
    self->entry = reader->entry;
    self->slot = reader->slot;
    self->row = ring_load(self->slot.header + SHM_S_PUBLISHED);
    return 0;
}

/* Accept any sequence. A tuple is made first: a sequence may create its items on access. */
static int
writer_key(Writer *self, PyObject *key)
{
    PyObject *pair = PySequence_Tuple(key);
    if (pair == NULL) {
        return -1;
    }
    int parsed = PyArg_ParseTuple(pair, "UU;key must be (symbol, timeframe)",
                                  &self->symbol, &self->timeframe);
    if (parsed) {
        Py_INCREF(self->symbol);
        Py_INCREF(self->timeframe);
    } else {
        self->symbol = self->timeframe = NULL;
    }
    Py_DECREF(pair);
    return parsed ? 0 : -1;
}

static PyObject *
writer_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *parameters[] = {"words", "geometry", "index", "key",
                                 "wake",  "right",    NULL};
    PyObject *words, *geometry, *index, *key, *wake, *right;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OOOOOO", parameters, &words,
                                     &geometry, &index, &key, &wake, &right)) {
        return NULL;
    }
    Writer *self = (Writer *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->wake = Py_NewRef(wake);
    self->index = Py_NewRef(index);
    self->right_word = &no_right;
    if (writer_key(self, key) < 0 || writer_bind(self, words, geometry) < 0 ||
        writer_set_right(self, right) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

/* `wake` may form a cycle: a FeedWriter holds its RingWriters and may be held by it. */
static int
writer_traverse(Writer *self, visitproc visit, void *arg)
{
    Py_VISIT(self->wake);
    Py_VISIT(self->right);
    return 0;
}

static int
writer_clear(Writer *self)
{
    Py_XSETREF(self->wake, Py_NewRef(Py_None));
    return 0;
}

static void
writer_dealloc(Writer *self)
{
    PyObject_GC_UnTrack(self);
    if (self->buffer.obj != NULL) {
        PyBuffer_Release(&self->buffer);
    }
    if (self->right_buffer.obj != NULL) {
        PyBuffer_Release(&self->right_buffer);
    }
    Py_XDECREF(self->right);
    Py_XDECREF(self->symbol);
    Py_XDECREF(self->timeframe);
    Py_XDECREF(self->reader);
    Py_XDECREF(self->wake);
    Py_XDECREF(self->index);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef writer_methods[] = {
    {"append", FUNCTION(writer_append), NAMED, DOC_RingWriter_append},
    {"update_forming", FUNCTION(writer_update_forming), NAMED,
     DOC_RingWriter_update_forming},
    {"_enter_slot", (PyCFunction)writer_enter_slot, METH_VARARGS,
     DOC_RingWriter__enter_slot},
    {"close", (PyCFunction)writer_close, METH_NOARGS, DOC_RingWriter_close},
    {"__reduce__", writer_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef writer_members[] = {
    {"symbol", T_OBJECT, offsetof(Writer, symbol), READONLY, NULL},
    {"timeframe", T_OBJECT, offsetof(Writer, timeframe), READONLY, NULL},
    {"reader", T_OBJECT, offsetof(Writer, reader), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject WriterType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmfeed._ringbuf.RingWriter",
    .tp_basicsize = sizeof(Writer),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = DOC_RingWriter___init__ DOC_RingWriter,
    .tp_new = writer_new,
    .tp_dealloc = (destructor)writer_dealloc,
    .tp_traverse = (traverseproc)writer_traverse,
    .tp_clear = (inquiry)writer_clear,
    .tp_methods = writer_methods,
    .tp_members = writer_members,
};

#endif
