/* Area, as shmfeed/memory/keeping.py defines it: one slot as this process maps it. */
#ifndef SHM_AREA_H
#define SHM_AREA_H

#include "core.h"
#include "keep.h"

typedef struct Slice Slice;
typedef struct Area Area;

/* The slices of one reader that were overwritten. Areas count after its death too. */
typedef struct {
    int64_t references;
    int64_t lapped;  /* all of them */
    int64_t lost;    /* alive when a verb, or the limit, found them */
} Tally;

struct Area {
    PyObject_HEAD
    ring_slot slot;
    Py_buffer buffer;  /* of the whole segment; no object if the slot is mapped by itself */
    int64_t margin;    /* rows before the last moment at which slices are set aside */
    Slice *slices;     /* the living ones, newest first */
    Tally *tally;
    int64_t kept;  /* bytes, if the slices were set aside */
    Area *older;   /* the neighbours among the areas that were set aside */
    Area *newer;
};

static PyTypeObject AreaType;

/* The areas that this process has set aside, oldest first. */
static struct {
    Area *oldest;
    Area *newest;
    int64_t areas;
    int64_t most_areas;
    int64_t bytes;
    int64_t limit;
} kept = {NULL, NULL, 0, 0, 0, 0};

static inline void
tally_release(Tally *tally)
{
    if (tally != NULL && --tally->references == 0) {
        PyMem_Free(tally);
    }
}

static void
kept_link(Area *self, int64_t bytes)
{
    self->kept = bytes;
    kept.bytes += bytes;
    kept.areas++;
    self->older = kept.newest;
    self->newer = NULL;
    *(kept.newest != NULL ? &kept.newest->newer : &kept.oldest) = self;
    kept.newest = self;
}

static void
kept_unlink(Area *self)
{
    kept.bytes -= self->kept;
    kept.areas--;
    self->kept = 0;
    *(self->older != NULL ? &self->older->newer : &kept.oldest) = self->newer;
    *(self->newer != NULL ? &self->newer->older : &kept.newest) = self->older;
}

/* Map the slot by itself or, where that is not possible, take the segment's own memory,
   which holds on to the whole of it. `self` is a new object or NULL with an error. */
static Area *
area_new(const ring_slot *segment_slot, PyObject *raw, bool mapped, int64_t margin,
         Tally *tally)
{
    Area *self = (Area *)AreaType.tp_alloc(&AreaType, 0);
    if (self == NULL) {
        return NULL;
    }
    void *address = mapped ? keep_duplicate(segment_slot) : NULL;
    self->slot = *segment_slot;
    if (address != NULL) {
        self->slot.header = address;
        self->slot.columns = (ring_word *)address + SHM_SLOT_HEADER_WORDS;
    } else if (PyObject_GetBuffer(raw, &self->buffer, PyBUF_SIMPLE) < 0) {
        self->slot.header = NULL;
        Py_DECREF(self);
        return NULL;
    }
    self->margin = margin;
    self->tally = tally;
    tally->references++;
    return self;
}

static inline bool
area_can_keep(const Area *self)
{
    return self->buffer.obj == NULL;
}

static void
area_dealloc(Area *self)
{
    if (self->kept > 0) {
        kept_unlink(self);
    }
    if (self->buffer.obj != NULL) {
        PyBuffer_Release(&self->buffer);
    } else if (self->slot.header != NULL) {
        keep_unmap(&self->slot);
    }
    tally_release(self->tally);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject AreaType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmfeed._ringbuf.Area",
    .tp_basicsize = sizeof(Area),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)area_dealloc,
};

#endif
