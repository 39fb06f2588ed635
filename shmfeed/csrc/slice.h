/* Slice and Validity, as shmfeed/memory/rows.py and keeping.py define them, and the
   setting aside of an area's slices. The GIL is held throughout. */
#ifndef SHM_SLICE_H
#define SHM_SLICE_H

#include "area.h"
#include "rows.h"

typedef enum {
    SLICE_LIVE,    /* set aside before it is overwritten */
    SLICE_UNKEPT,  /* cannot be set aside: it may be overwritten */
    SLICE_KEPT,    /* set aside whole */
    SLICE_LAPPED,  /* overwritten */
} slice_state;

typedef struct {
    PyObject_HEAD
    Slice *slice;  /* borrowed; NULL after its death */
    bool valid;    /* its last answer */
} Validity;

struct Slice {
    Rows rows;
    ring_slot slot;
    int64_t word;
    slice_state state;
    Area *area;
    Slice *older;
    Slice *newer;
    Validity *validity;  /* borrowed */
};

static PyTypeObject SliceType;
static PyTypeObject ValidityType;

static inline bool
slice_is_intact(const Slice *self, const ring_slot *slot)
{
    return ring_intact(slot, self->word, self->rows.first);
}

static inline bool
slice_is_valid(const Slice *self)
{
    return self->state == SLICE_KEPT ||
           (self->state < SLICE_KEPT && slice_is_intact(self, &self->slot));
}

/* The count of rows at which the slice has to be set aside, or is overwritten. */
static inline int64_t
slice_due(const Slice *self)
{
    int64_t last = (int64_t)((uint64_t)self->rows.first + (uint64_t)self->slot.capacity);
    switch (self->state) {
    case SLICE_LIVE:
        return ring_minus(last, self->area->margin);
    case SLICE_UNKEPT:
        return ring_minus(last, -1);
    default:
        return INT64_MAX;
    }
}

/* Memory of dead slices, for the next ones: most reads make a slice and drop one. */
#ifdef __SANITIZE_ADDRESS__
#define MOST_SPARE 0  /* each slice is a piece of the heap of its own */
#else
#define MOST_SPARE 16
#endif

static struct {
    Slice *slices;  /* linked by `older` */
    int count;
} spare;

static inline Slice *
slice_alloc(void)
{
    Slice *self = spare.slices;
    if (self == NULL) {
        return PyObject_New(Slice, &SliceType);
    }
    spare.slices = self->older;
    spare.count--;
    PyObject_Init((PyObject *)self, &SliceType);
    return self;
}

static inline void
slice_free(Slice *self)
{
    if (spare.count >= MOST_SPARE) {
        PyObject_Free(self);
        return;
    }
    self->older = spare.slices;
    spare.slices = self;
    spare.count++;
}

/* Make a slice of rows [first, last) of an area. */
static Slice *
slice_new(Area *area, int64_t word, int64_t first, int64_t last)
{
    Slice *self = slice_alloc();
    if (self == NULL) {
        return NULL;
    }
    self->rows.owner = Py_NewRef(area);
    self->rows.words = (ring_word *)ring_row(&area->slot, first);
    self->rows.stride = ring_stride(&area->slot);
    self->rows.first = first;
    self->rows.last = last;
    self->rows.forming = 0;
    self->slot = area->slot;
    self->word = word;
    self->state = area_can_keep(area) ? SLICE_LIVE : SLICE_UNKEPT;
    self->area = area;
    self->validity = NULL;
    self->older = area->slices;
    self->newer = NULL;
    if (area->slices != NULL) {
        area->slices->newer = self;
    }
    area->slices = self;
    return self;
}

static void
slice_dealloc(Slice *self)
{
    bool valid = slice_is_valid(self);
    if (self->validity != NULL) {
        self->validity->slice = NULL;
        self->validity->valid = valid;
    }
    if (!valid && self->state != SLICE_LAPPED) {
        self->area->tally->lapped++;
    }
    *(self->newer != NULL ? &self->newer->older : &self->area->slices) = self->older;
    if (self->older != NULL) {
        self->older->newer = self->newer;
    }
    Py_DECREF(self->area);
    slice_free(self);
}

static void
slice_mark_lapped(Slice *self)
{
    self->state = SLICE_LAPPED;
    self->area->tally->lapped++;
    self->area->tally->lost++;
}

/* Give up the rows that were set aside longest ago until `bytes` more, and the area that
   has them, fit. */
static void
kept_make_room(int64_t bytes)
{
    while (kept.oldest != NULL && (kept.bytes > kept.limit - bytes ||
                                   kept.areas + (bytes > 0) > kept.most_areas)) {
        Area *area = kept.oldest;
        for (Slice *slice = area->slices; slice != NULL; slice = slice->older) {
            if (slice->state != SLICE_LAPPED) {
                slice_mark_lapped(slice);
            }
        }
        keep_empty(&area->slot);
        kept_unlink(area);
    }
}

/* The rows that the area's slices cover, joined. NULL without memory. */
static keep_range *
area_ranges(const Area *area, size_t *count)
{
    size_t slices = 0;
    for (Slice *slice = area->slices; slice != NULL; slice = slice->older) {
        slices++;
    }
    keep_range *ranges = PyMem_New(keep_range, slices);
    if (ranges == NULL) {
        return NULL;
    }
    size_t i = 0;
    for (Slice *slice = area->slices; slice != NULL; slice = slice->older, i++) {
        ranges[i].first = ring_index(&slice->slot, slice->rows.first);
        ranges[i].last = ranges[i].first + rows_len(&slice->rows);
    }
    *count = keep_join(ranges, slices);
    return ranges;
}

/* Set the area's slices aside, steps K2 to K5; false if they cannot be. No reader uses
   the area any more. */
static bool
area_set_aside(Area *area, const ring_slot *segment_slot)
{
    size_t count;
    if (!area_can_keep(area)) {
        return false;
    }
    keep_range *ranges = area_ranges(area, &count);
    if (ranges == NULL) {
        return false;
    }
    int64_t bytes = keep_bytes(&area->slot, ranges, count);
    bool moved = bytes <= kept.limit &&
                 keep_move(&area->slot, segment_slot, ranges, count);
    PyMem_Free(ranges);
    if (!moved) {
        return false;
    }
    kept_make_room(bytes);
    if (bytes > 0) {
        kept_link(area, bytes);
    }
    for (Slice *slice = area->slices; slice != NULL; slice = slice->older) {
        /* K5: another thread may have used the rows until K4. */
        if (slice->state == SLICE_LAPPED) {
            continue;
        }
        if (slice_is_intact(slice, segment_slot)) {
            slice->state = SLICE_KEPT;
        } else {
            slice_mark_lapped(slice);
        }
    }
    return true;
}

/* Note which slices were overwritten by now. Return the least count at which a slice
   that is alive needs setting aside, or is overwritten. */
static int64_t
area_update_due(Area *area)
{
    int64_t due = INT64_MAX;
    for (Slice *slice = area->slices; slice != NULL; slice = slice->older) {
        if (slice->state < SLICE_KEPT && !slice_is_intact(slice, &slice->slot)) {
            slice_mark_lapped(slice);
        }
        int64_t of_slice = slice_due(slice);
        if (of_slice < due) {
            due = of_slice;
        }
    }
    return due;
}

static void
area_give_up(Area *area)
{
    for (Slice *slice = area->slices; slice != NULL; slice = slice->older) {
        if (slice->state == SLICE_LIVE) {
            slice->state = SLICE_UNKEPT;
        }
    }
}

static PyObject *
slice_block(Slice *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    PyErr_SetString(PyExc_AttributeError, "block");
    return NULL;
}

static PyObject *
slice_valid(Slice *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(slice_is_valid(self));
}

static PyObject *
slice_validity(Slice *self, void *Py_UNUSED(closure))
{
    if (self->validity != NULL) {
        return Py_NewRef(self->validity);
    }
    Validity *validity = PyObject_New(Validity, &ValidityType);
    if (validity != NULL) {
        validity->slice = self;
        validity->valid = false;
        self->validity = validity;
    }
    return (PyObject *)validity;
}

static void
validity_dealloc(Validity *self)
{
    if (self->slice != NULL) {
        self->slice->validity = NULL;
    }
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
validity_valid(Validity *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->slice != NULL ? slice_is_valid(self->slice)
                                               : self->valid);
}

static PyObject *
validity_count_flags(Validity *self, PyObject *args)
{
    PyObject *flags;
    long long first, last;
    if (!PyArg_ParseTuple(args, "O!LL", &PyTuple_Type, &flags, &first, &last)) {
        return NULL;
    }
    if (self->slice == NULL) {
        Py_RETURN_NONE;
    }
    PyObject *counts = count_flags(&self->slice->rows, flags, first, last);
    if (counts != NULL && !slice_is_valid(self->slice)) {
        Py_SETREF(counts, Py_NewRef(Py_None));
    }
    return counts;
}

static PyObject *
validity_copy_block(Validity *self, PyObject *Py_UNUSED(none))
{
    Slice *slice = self->slice;
    if (slice == NULL) {
        Py_RETURN_NONE;
    }
    Py_INCREF(slice);  /* a long copy lets other threads run */
    PyObject *copy = rows_copy(&slice->rows, NULL);
    PyObject *block = copy == NULL ? NULL : rows_block((Rows *)copy, NULL);
    if (block != NULL && !slice_is_valid(slice)) {
        Py_SETREF(block, Py_NewRef(Py_None));
    }
    Py_XDECREF(copy);
    Py_DECREF(slice);
    return block;
}

static PyObject *
kept_bytes(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return PyLong_FromLongLong(kept.bytes);
}

static PyObject *
limit_kept(PyObject *Py_UNUSED(module), PyObject *bytes)
{
    int64_t limit;
    if (as_int64(Py_NewRef(bytes), &limit) < 0) {
        return NULL;
    }
    kept.limit = limit;
    kept_make_room(0);
    Py_RETURN_NONE;
}

/* Take the limits of a process that has not attached to a feed yet. */
static int
take_default_limits(void)
{
    int64_t limit;
    PyObject *keeping = PyImport_ImportModule("shmfeed.memory.keeping");
    if (keeping == NULL) {
        return -1;
    }
    int failed =
        as_int64(PyObject_GetAttrString(keeping, "DEFAULT_KEEP_MB"), &limit) < 0 ||
        as_int64(PyObject_GetAttrString(keeping, "MOST_AREAS"), &kept.most_areas) < 0;
    Py_DECREF(keeping);
    if (failed) {
        return -1;
    }
    kept.limit = limit << 20;
    return 0;
}

#define KEEP_METHODS                                                                  \
    {"kept_bytes", kept_bytes, METH_NOARGS, DOC_kept_bytes},                          \
    {"limit_kept", limit_kept, METH_O, DOC_limit_kept},

static PyGetSetDef slice_getset[] = {
    {"block", (getter)slice_block, NULL, NULL, NULL},
    {"valid", (getter)slice_valid, NULL, DOC_Slice_valid, NULL},
    {"validity", (getter)slice_validity, NULL, DOC_Slice_validity, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef validity_getset[] = {
    {"valid", (getter)validity_valid, NULL, DOC_Validity_valid, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef validity_methods[] = {
    {"count_flags", (PyCFunction)validity_count_flags, METH_VARARGS,
     DOC_Validity_count_flags},
    {"copy_block", (PyCFunction)validity_copy_block, METH_NOARGS,
     DOC_Validity_copy_block},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject SliceType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmfeed._ringbuf.Slice",
    .tp_basicsize = sizeof(Slice),
    .tp_base = &RowsType,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = DOC_Slice,
    .tp_dealloc = (destructor)slice_dealloc,
    .tp_getset = slice_getset,
};

static PyTypeObject ValidityType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmfeed._ringbuf.Validity",
    .tp_basicsize = sizeof(Validity),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = DOC_Validity,
    .tp_dealloc = (destructor)validity_dealloc,
    .tp_methods = validity_methods,
    .tp_getset = validity_getset,
};

#endif
