/* ReattachingReader, as shmfeed/follower.py defines it. */
#ifndef SHM_FOLLOWER_H
#define SHM_FOLLOWER_H

#include "reader.h"

typedef struct {
    PyObject_HEAD
    PyObject *reader;  /* NULL: the next call finds one */
} ReattachingReader;

static PyTypeObject ReattachingReaderType;
static PyObject *find_name;

/* Return a new reference: another thread may detach the reader while a call runs. */
static Reader *
reattaching_current(ReattachingReader *self)
{
    PyObject *reader = self->reader;
    if (reader != NULL && ring_is_current(((Reader *)reader)->segment, boot_ns_about())) {
        return (Reader *)Py_NewRef(reader);
    }
    reader = PyObject_CallMethodNoArgs((PyObject *)self, find_name);
    if (reader == NULL) {
        return NULL;
    }
    if (!Py_IS_TYPE(reader, &ReaderType)) {
        PyErr_Format(PyExc_TypeError, "_find() returned a %s, not a RingReader",
                     Py_TYPE(reader)->tp_name);
        Py_DECREF(reader);
        return NULL;
    }
    Py_XSETREF(self->reader, Py_NewRef(reader));
    return (Reader *)reader;
}

/* Call a function with the current reader. */
#define WITH_CURRENT_READER(self, call)                                               \
    Reader *reader = reattaching_current(self);                                       \
    if (reader == NULL) {                                                             \
        return NULL;                                                                  \
    }                                                                                 \
    PyObject *answer = call;                                                          \
    Py_DECREF(reader);                                                                \
    return answer

static PyObject *
reattaching_view(ReattachingReader *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    WITH_CURRENT_READER(self, reader_view_named(reader, args, count, names));
}

static PyObject *
reattaching_snapshot(ReattachingReader *self, PyObject *const *args, Py_ssize_t count,
                  PyObject *names)
{
    WITH_CURRENT_READER(self, reader_snapshot(reader, args, count, names));
}

static PyObject *
reattaching_latest(ReattachingReader *self, PyObject *const *args, Py_ssize_t count,
                PyObject *names)
{
    WITH_CURRENT_READER(self, reader_latest(reader, args, count, names));
}

static PyObject *
reattaching_forming(ReattachingReader *self, PyObject *none)
{
    WITH_CURRENT_READER(self, reader_forming(reader, none));
}

static PyObject *
reattaching_count(ReattachingReader *self, void *closure)
{
    WITH_CURRENT_READER(self, reader_count(reader, closure));
}

static PyObject *
reattaching_epoch(ReattachingReader *self, void *closure)
{
    WITH_CURRENT_READER(self, reader_epoch(reader, closure));
}

static PyObject *
reattaching_reader(ReattachingReader *self, PyObject *Py_UNUSED(none))
{
    return (PyObject *)reattaching_current(self);
}

static PyObject *
reattaching_last_reader(ReattachingReader *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->reader == NULL ? Py_None : self->reader);
}

static PyObject *
reattaching_detach(ReattachingReader *self, PyObject *Py_UNUSED(none))
{
    Py_CLEAR(self->reader);
    Py_RETURN_NONE;
}

static PyObject *
reattaching_find(ReattachingReader *Py_UNUSED(self), PyObject *Py_UNUSED(none))
{
    PyErr_SetNone(PyExc_NotImplementedError);
    return NULL;
}

/* A subclass's __init__ takes the arguments. */
static PyObject *
reattaching_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
             PyObject *Py_UNUSED(keywords))
{
    return type->tp_alloc(type, 0);
}

static int
reattaching_traverse(ReattachingReader *self, visitproc visit, void *arg)
{
    Py_VISIT(self->reader);
    return 0;
}

static int
reattaching_clear(ReattachingReader *self)
{
    Py_CLEAR(self->reader);
    return 0;
}

static void
reattaching_dealloc(ReattachingReader *self)
{
    PyObject_GC_UnTrack(self);
    reattaching_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef reattaching_methods[] = {
    {"view", FUNCTION(reattaching_view), NAMED,
     "view($self, n)\n--\n\n"
     "Return the last n closed bars without copying; ask `valid` after use.\n\n"
     "n is at least 1; more than `history` counts as `history`. Raises\n"
     "BadArgumentError, and BusyRingError if the writer outran the read for 10 ms."},
    {"snapshot", FUNCTION(reattaching_snapshot), NAMED,
     "snapshot($self, n, include_now=False)\n--\n\n"
     "Return a private copy of the last n bars, of the same shape as `view`.\n\n"
     "With include_now the forming bar, if there is one, is the last of the n. Raises\n"
     "BadArgumentError, and BusyRingError if the writer outran the read for 10 ms."},
    {"latest", FUNCTION(reattaching_latest), NAMED,
     "latest($self, field)\n--\n\n"
     "Return the newest value of a field: the forming bar's, else the last bar's.\n\n"
     "NaN without a bar. Raises BadArgumentError, BusyRingError."},
    {"forming", (PyCFunction)reattaching_forming, METH_NOARGS,
     "Return the forming bar; None before the first, and once it has closed."},
    {"reader", (PyCFunction)reattaching_reader, METH_NOARGS,
     "Return the reader of the current segment."},
    {"detach", (PyCFunction)reattaching_detach, METH_NOARGS,
     "Drop the reader; the next verb finds one."},
    {"_find", (PyCFunction)reattaching_find, METH_NOARGS,
     "Return the reader of the current segment, or of the last one that was."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef reattaching_getset[] = {
    {"count", (getter)reattaching_count, NULL,
     "The number of the next closed bar; it only grows within `epoch`.", NULL},
    {"epoch", (getter)reattaching_epoch, NULL,
     "The life of the numbering: a repair or a recreated feed raises it.", NULL},
    {"last_reader", (getter)reattaching_last_reader, NULL,
     "The reader of the last verb, None before the first and after `detach`.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject ReattachingReaderType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmfeed._ringbuf.ReattachingReader",
    .tp_basicsize = sizeof(ReattachingReader),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "The read methods of RingReader, on the current segment.",
    .tp_new = reattaching_new,
    .tp_dealloc = (destructor)reattaching_dealloc,
    .tp_traverse = (traverseproc)reattaching_traverse,
    .tp_clear = (inquiry)reattaching_clear,
    .tp_methods = reattaching_methods,
    .tp_getset = reattaching_getset,
};

#endif
