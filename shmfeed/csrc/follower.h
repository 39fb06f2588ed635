/* ReattachingReader: following.py defines it. */
#ifndef SHM_FOLLOWER_H
#define SHM_FOLLOWER_H

#include "reader.h"

typedef struct {
    PyObject_HEAD
    PyObject *reader;  /* NULL: the next verb looks for one */
} ReattachingReader;

static PyTypeObject FollowerType;
static PyObject *find_name;

/* A new reference: while a verb runs another thread may take the reader away. */
static Reader *
follower_current(ReattachingReader *self)
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
        PyErr_Format(PyExc_TypeError, "_find() gave a %s, no RingReader",
                     Py_TYPE(reader)->tp_name);
        Py_DECREF(reader);
        return NULL;
    }
    Py_XSETREF(self->reader, Py_NewRef(reader));
    return (Reader *)reader;
}

/* A verb of the reader that serves now. */
#define FOLLOW(self, call)                                                            \
    Reader *reader = follower_current(self);                                          \
    if (reader == NULL) {                                                             \
        return NULL;                                                                  \
    }                                                                                 \
    PyObject *answer = call;                                                          \
    Py_DECREF(reader);                                                                \
    return answer

static PyObject *
follower_view(ReattachingReader *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    FOLLOW(self, reader_view_named(reader, args, count, names));
}

static PyObject *
follower_snapshot(ReattachingReader *self, PyObject *const *args, Py_ssize_t count,
                  PyObject *names)
{
    FOLLOW(self, reader_snapshot(reader, args, count, names));
}

static PyObject *
follower_latest(ReattachingReader *self, PyObject *const *args, Py_ssize_t count,
                PyObject *names)
{
    FOLLOW(self, reader_latest(reader, args, count, names));
}

static PyObject *
follower_forming(ReattachingReader *self, PyObject *none)
{
    FOLLOW(self, reader_forming(reader, none));
}

static PyObject *
follower_count(ReattachingReader *self, void *closure)
{
    FOLLOW(self, reader_count(reader, closure));
}

static PyObject *
follower_epoch(ReattachingReader *self, void *closure)
{
    FOLLOW(self, reader_epoch(reader, closure));
}

static PyObject *
follower_reader(ReattachingReader *self, PyObject *Py_UNUSED(none))
{
    return (PyObject *)follower_current(self);
}

static PyObject *
follower_kept(ReattachingReader *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->reader == NULL ? Py_None : self->reader);
}

static PyObject *
follower_forget(ReattachingReader *self, PyObject *Py_UNUSED(none))
{
    Py_CLEAR(self->reader);
    Py_RETURN_NONE;
}

static PyObject *
follower_find(ReattachingReader *Py_UNUSED(self), PyObject *Py_UNUSED(none))
{
    PyErr_SetNone(PyExc_NotImplementedError);
    return NULL;
}

/* Whatever a subclass is made with is its __init__'s. */
static PyObject *
follower_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
             PyObject *Py_UNUSED(keywords))
{
    return type->tp_alloc(type, 0);
}

static int
follower_traverse(ReattachingReader *self, visitproc visit, void *arg)
{
    Py_VISIT(self->reader);
    return 0;
}

static int
follower_clear(ReattachingReader *self)
{
    Py_CLEAR(self->reader);
    return 0;
}

static void
follower_dealloc(ReattachingReader *self)
{
    PyObject_GC_UnTrack(self);
    follower_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef follower_methods[] = {
    {"view", FUNCTION(follower_view), NAMED,
     "view($self, n)\n--\n\n"
     "The last n closed bars, at most `history`, fewer if there are fewer.\n\n"
     "Zero-copy and read-only; ask `valid` after use. Raises BadArgumentError for\n"
     "n < 1, BusyRingError when a writer outruns the read for 10 ms."},
    {"snapshot", FUNCTION(follower_snapshot), NAMED,
     "snapshot($self, n, include_now=False)\n--\n\n"
     "The last n bars, private and consistent; the same shape as `view`.\n\n"
     "With `include_now` the forming bar, if there is one, is the last of the n.\n"
     "Raises BadArgumentError for n < 1, BusyRingError."},
    {"latest", FUNCTION(follower_latest), NAMED,
     "latest($self, field)\n--\n\n"
     "The newest value of a field, the forming bar's if there is one.\n\n"
     "NaN if there is no bar at all. Raises BadArgumentError, BusyRingError."},
    {"forming", (PyCFunction)follower_forming, METH_NOARGS,
     "The unfinished bar, or None; never one that has closed already."},
    {"reader", (PyCFunction)follower_reader, METH_NOARGS,
     "The reader of the segment that serves now."},
    {"forget", (PyCFunction)follower_forget, METH_NOARGS,
     "Let go of the reader: the next verb looks for one."},
    {"_find", (PyCFunction)follower_find, METH_NOARGS,
     "The reader of the segment that serves now, or the last one that did."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef follower_getset[] = {
    {"count", (getter)follower_count, NULL,
     "Number of the next closed bar; only ever grows within `epoch`.", NULL},
    {"epoch", (getter)follower_epoch, NULL,
     "Raised by a repair or a re-created feed; bar numbers hold within one.", NULL},
    {"kept", (getter)follower_kept, NULL,
     "The reader that was used last, None if there is none.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject FollowerType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmfeed._ringbuf.ReattachingReader",
    .tp_basicsize = sizeof(ReattachingReader),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Reads through `reader()`: the last one, as long as its segment serves.",
    .tp_new = follower_new,
    .tp_dealloc = (destructor)follower_dealloc,
    .tp_traverse = (traverseproc)follower_traverse,
    .tp_clear = (inquiry)follower_clear,
    .tp_methods = follower_methods,
    .tp_getset = follower_getset,
};

#endif
