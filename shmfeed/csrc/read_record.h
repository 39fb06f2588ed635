/* ReadRecord: what a read of the price table has noted about its rows, for the attrs of its
   frame. It does not keep the rows. wealthdata/facts.py has its twin. */
#ifndef SHM_READ_RECORD_H
#define SHM_READ_RECORD_H

#include "slice.h"

typedef struct {
    Validity validity;  /* of a frame over the ring's rows; True of private rows */
    PyObject *facts;
    PyObject *own;   /* a copy of private rows with a forming bar, or NULL */
    int64_t first;
    int64_t last;    /* exclusive */
    int64_t epoch;   /* of these numbers */
    int64_t moment;  /* of the read, ns of CLOCK_BOOTTIME */
    int64_t age;     /* of the last update at that moment, ns */
    int64_t newest;  /* close time of the newest row, 0 without rows */
} ReadRecord;

static PyTypeObject ReadRecordType;

/* Return the record of these rows, a new reference. `slice` is NULL for private rows. */
static PyObject *
read_record(Slice *slice, const Rows *rows, int64_t word, PyObject *facts,
            int64_t moment, int64_t age)
{
    ReadRecord *self = PyObject_New(ReadRecord, &ReadRecordType);
    if (self == NULL) {
        return NULL;
    }
    self->validity.slice = slice;
    self->validity.valid = slice == NULL;
    if (slice != NULL) {
        slice->validity = &self->validity;  /* a new slice has none yet */
    }
    self->facts = Py_NewRef(facts);
    self->own = NULL;
    self->first = rows->first;
    self->last = rows->last;
    self->epoch = word >> SHM_SLOT_BITS;
    self->moment = moment;
    self->age = age;
    int64_t count = rows_len(rows);
    self->newest = count > 0 ? ring_load(words_of(rows, CLOSE_TIMES) + count - 1) : 0;
    return (PyObject *)self;
}

static void
record_dealloc(ReadRecord *self)
{
    Py_DECREF(self->facts);
    Py_XDECREF(self->own);
    validity_dealloc(&self->validity);
}

static PyObject *
record_age(ReadRecord *self, void *Py_UNUSED(closure))
{
    return PyFloat_FromDouble((double)self->age / 1e9);
}

static PyMemberDef record_members[] = {
    {"facts", T_OBJECT_EX, offsetof(ReadRecord, facts), READONLY, NULL},
    {"own", T_OBJECT, offsetof(ReadRecord, own), READONLY, NULL},
    {"first", T_LONGLONG, offsetof(ReadRecord, first), READONLY, NULL},
    {"last", T_LONGLONG, offsetof(ReadRecord, last), READONLY, NULL},
    {"epoch", T_LONGLONG, offsetof(ReadRecord, epoch), READONLY, NULL},
    {"moment", T_LONGLONG, offsetof(ReadRecord, moment), READONLY, NULL},
    {"newest", T_LONGLONG, offsetof(ReadRecord, newest), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef record_getset[] = {
    {"age", (getter)record_age, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject ReadRecordType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmfeed._ringbuf.ReadRecord",
    .tp_basicsize = sizeof(ReadRecord),
    .tp_base = &ValidityType,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)record_dealloc,
    .tp_members = record_members,
    .tp_getset = record_getset,
};

#endif
