/* Clapper: the part of bell.py's Bell that strikes; PureBell defines it. */
#ifndef SHM_BELL_H
#define SHM_BELL_H

#include "_futex.h"

#ifdef __linux__

typedef struct {
    PyObject_HEAD
    vectorcallfunc called;
    Py_buffer buffer;
    uint32_t *word;
} Clapper;

static PyObject *
clapper_strike(Clapper *self, unsigned long bits)
{
    bump(self->word);
    if (wake(self->word, (uint32_t)bits) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *
clapper_call(PyObject *self, PyObject *const *args, size_t count, PyObject *names)
{
    if (PyVectorcall_NARGS(count) != 1 || names != NULL) {
        PyErr_SetString(PyExc_TypeError, "a bell is called with a stream's index");
        return NULL;
    }
    unsigned long index = PyLong_AsUnsignedLong(args[0]);
    if (index == (unsigned long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    return clapper_strike((Clapper *)self, 1UL << index % 32);
}

static PyObject *
clapper_ring(Clapper *self, PyObject *number)
{
    unsigned long bits = PyLong_AsUnsignedLong(number);
    if (bits == (unsigned long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    return clapper_strike(self, bits);
}

static PyObject *
clapper_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"words", NULL};
    PyObject *words;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O", names, &words)) {
        return NULL;
    }
    Clapper *self = (Clapper *)type->tp_alloc(type, 0);
    PyObject *raw = self == NULL ? NULL : PyObject_GetAttrString(words, "raw");
    if (raw != NULL) {
        self->called = clapper_call;
        self->word = futex_word(raw, SHM_H_WAKE * SHM_WORD, PyBUF_WRITABLE,
                                &self->buffer);
        Py_DECREF(raw);
    }
    if (raw == NULL || self->word == NULL) {
        Py_XDECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void
clapper_dealloc(Clapper *self)
{
    if (self->word != NULL) {
        PyBuffer_Release(&self->buffer);
    }
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef clapper_methods[] = {
    {"ring", (PyCFunction)clapper_ring, METH_O,
     "Wake who listens for one of these bits."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject ClapperType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmfeed.memory._ringbuf.Clapper",
    .tp_basicsize = sizeof(Clapper),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_doc = "Strikes a segment's bell: called with a stream's index, or ring(bits).",
    .tp_new = clapper_new,
    .tp_dealloc = (destructor)clapper_dealloc,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(Clapper, called),
    .tp_methods = clapper_methods,
};

#define BELL_TYPES &ClapperType,

#else
#define BELL_TYPES
#endif

#endif
