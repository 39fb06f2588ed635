/* ReattachingReader, as shmfeed/follower.py defines it. */
#ifndef SHM_FOLLOWER_H
#define SHM_FOLLOWER_H

#include "reader.h"

typedef struct {
    PyObject_HEAD
    PyObject *reader;  /* NULL: the next call finds one */
    Py_buffer lookup;  /* of the reader's words */
    int64_t lapped;    /* counted by earlier readers */
    int64_t lost;
} ReattachingReader;

static PyTypeObject ReattachingReaderType;
static PyObject *find_name;

/* Use a reader, or none (both NULL). `lookup` is of the reader's words; it is released with
   it. The old reader goes last: as it dies it may unmap its segment, without the GIL, and
   another thread may then put a reader into this object. What the old one has counted for
   this object stays counted, and what the new one had counted before is not its. */
static void
reattaching_use(ReattachingReader *self, PyObject *reader, Py_buffer *lookup)
{
    PyObject *old = self->reader;
    Py_buffer old_lookup = self->lookup;
    self->reader = Py_XNewRef(reader);
    if (reader != NULL) {
        self->lookup = *lookup;
        self->lapped -= ((Reader *)reader)->tally->lapped;
        self->lost -= ((Reader *)reader)->tally->lost;
    }
    if (old != NULL) {
        Tally *tally = ((Reader *)old)->tally;
        tally->references++;
        PyBuffer_Release(&old_lookup);
        Py_DECREF(old);  /* if it dies, it checks its slices once more */
        self->lapped += tally->lapped;
        self->lost += tally->lost;
        tally_release(tally);
    }
}

static int
reattaching_take(ReattachingReader *self, PyObject *reader)
{
    if (reader == self->reader) {
        return 0;
    }
    Py_buffer lookup;
    PyObject *words = PyObject_GetAttrString(((Reader *)reader)->words, "lookup");
    int failed = words == NULL || PyObject_GetBuffer(words, &lookup, PyBUF_SIMPLE) < 0;
    Py_XDECREF(words);
    if (failed) {
        return -1;
    }
    reattaching_use(self, reader, &lookup);
    return 0;
}

static inline bool
reattaching_keeps(ReattachingReader *self)
{
    const ring_word *segment = ((Reader *)self->reader)->segment;
    int64_t now = boot_ns_about();

    return reader_is_carried((Reader *)self->reader) &&
           (ring_is_current(segment, now) ||
            !ring_is_lookup_due(segment, self->lookup.buf, now));
}

/* Return a new reference: another thread may detach the reader while a call runs. */
static Reader *
reattaching_current(ReattachingReader *self)
{
    PyObject *reader = self->reader;
    if (reader != NULL && reattaching_keeps(self)) {
        return (Reader *)Py_NewRef(reader);
    }
    if (reader != NULL && !reader_is_carried((Reader *)reader)) {
        reader_leave_slot((Reader *)reader);  /* _find may not find another reader */
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
    if (reattaching_take(self, reader) < 0) {
        Py_DECREF(reader);
        return NULL;
    }
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
reattaching_lapped(ReattachingReader *self, void *Py_UNUSED(closure))
{
    const Reader *reader = (Reader *)self->reader;
    return PyLong_FromLongLong(self->lapped +
                               (reader == NULL ? 0 : reader->tally->lapped));
}

static inline int64_t
reattaching_count_lost(const ReattachingReader *self)
{
    const Reader *reader = (Reader *)self->reader;
    return self->lost + (reader == NULL ? 0 : reader->tally->lost);
}

static PyObject *
reattaching_lost(ReattachingReader *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(reattaching_count_lost(self));
}

static PyObject *
reattaching_detach(ReattachingReader *self, PyObject *Py_UNUSED(none))
{
    reattaching_use(self, NULL, NULL);
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
    reattaching_use(self, NULL, NULL);
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
    {"view", FUNCTION(reattaching_view), NAMED, DOC_ReattachingReader_view},
    {"snapshot", FUNCTION(reattaching_snapshot), NAMED, DOC_ReattachingReader_snapshot},
    {"latest", FUNCTION(reattaching_latest), NAMED, DOC_ReattachingReader_latest},
    {"forming", (PyCFunction)reattaching_forming, METH_NOARGS,
     DOC_ReattachingReader_forming},
    {"_current_reader", (PyCFunction)reattaching_reader, METH_NOARGS,
     DOC_ReattachingReader__current_reader},
    {"_detach", (PyCFunction)reattaching_detach, METH_NOARGS,
     DOC_ReattachingReader__detach},
    {"_find", (PyCFunction)reattaching_find, METH_NOARGS, DOC_ReattachingReader__find},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef reattaching_getset[] = {
    {"count", (getter)reattaching_count, NULL, DOC_ReattachingReader_count, NULL},
    {"epoch", (getter)reattaching_epoch, NULL, DOC_ReattachingReader_epoch, NULL},
    {"lapped", (getter)reattaching_lapped, NULL, DOC_ReattachingReader_lapped, NULL},
    {"_lost", (getter)reattaching_lost, NULL, DOC_ReattachingReader__lost, NULL},
    {"_last_reader", (getter)reattaching_last_reader, NULL,
     DOC_ReattachingReader__last_reader, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject ReattachingReaderType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmfeed._ringbuf.ReattachingReader",
    .tp_basicsize = sizeof(ReattachingReader),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = DOC_ReattachingReader___init__ DOC_ReattachingReader,
    .tp_new = reattaching_new,
    .tp_dealloc = (destructor)reattaching_dealloc,
    .tp_traverse = (traverseproc)reattaching_traverse,
    .tp_clear = (inquiry)reattaching_clear,
    .tp_methods = reattaching_methods,
    .tp_getset = reattaching_getset,
};

#endif
