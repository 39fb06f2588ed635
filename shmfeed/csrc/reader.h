/* RingReader, as shmfeed/ringbuf.py defines it. */
#ifndef SHM_READER_H
#define SHM_READER_H

#include "slice.h"

typedef struct {
    PyObject_HEAD
    PyObject *words;
    PyObject *geometry;
    Py_buffer buffer;
    ring_word *segment;
    ring_word *entry;
    int64_t entry_at;
    int64_t index;  /* of the entry */
    int64_t entry_epoch;  /* the entry's epoch when the reader was made */
    int64_t history;
    int64_t capacity;
    int64_t guard;
    int64_t slot_at;
    int64_t word;  /* the catalog word that names `slot` */
    ring_slot slot;  /* of `area` or, before the first slice, of the segment */
    Area *area;
    int64_t due;  /* the count at which slices of the area need attention */
    Tally *tally;
    bool mapped;  /* the buffer is a mapping */
} Reader;

static PyTypeObject ReaderType;

static int
take_int(PyObject *object, const char *name, int64_t *value)
{
    return as_int64(PyObject_GetAttrString(object, name), value);
}

/* The slot in the segment itself. */
static inline ring_slot
reader_segment_slot(const Reader *self)
{
    return ring_slot_at(self->segment, self->slot_at, self->capacity);
}

/* Read by way of the segment again, step K1. Return the area; its reference is the
   caller's. */
static Area *
reader_take_area(Reader *self)
{
    Area *area = self->area;
    self->area = NULL;
    self->due = INT64_MAX;
    self->slot = reader_segment_slot(self);
    return area;
}

/* Set aside what lives of the slot, since this reader looks at it no more. */
static void
reader_leave_slot(Reader *self)
{
    if (self->area != NULL) {
        ring_slot segment_slot = reader_segment_slot(self);
        Area *area = reader_take_area(self);
        area_update_due(area);
        if (area->slices != NULL) {
            area_set_aside(area, &segment_slot);
        }
        Py_DECREF(area);
    }
}

/* Look after the slices, as `count` rows are published and `due` is reached. */
static void __attribute__((noinline, cold))
reader_keep(Reader *self, int64_t count)
{
    ring_slot segment_slot = reader_segment_slot(self);
    Area *area = self->area;
    if (area == NULL) {  /* a damaged count reaches any */
        return;
    }
    self->due = area_update_due(area);
    if (self->due > count) {
        return;
    }
    reader_take_area(self);
    if (area_set_aside(area, &segment_slot)) {
        Py_DECREF(area);
        return;
    }
    area_give_up(area);
    self->area = area;
    self->slot = area->slot;
    self->due = area_update_due(area);
}

/* Make a slice of rows [first, last), and an area for it at the first one. */
static PyObject *
reader_slice(Reader *self, int64_t first, int64_t last)
{
    if (self->area != NULL && self->area->slices == NULL && self->mapped &&
        !area_can_keep(self->area)) {
        Py_DECREF(reader_take_area(self));  /* there may be room for a mapping now */
    }
    if (self->area == NULL) {
        PyObject *raw = PyObject_GetAttrString(self->words, "raw");
        Area *area = raw == NULL ? NULL
                                 : area_new(&self->slot, raw, self->mapped,
                                            self->guard / 2, self->tally);
        Py_XDECREF(raw);
        if (area == NULL) {
            return NULL;
        }
        self->area = area;
        self->slot = area->slot;
    }
    Slice *slice = slice_new(self->area, self->word, first, last);
    if (slice != NULL) {
        int64_t due = slice_due(slice);
        if (due < self->due) {
            self->due = due;
        }
    }
    return (PyObject *)slice;
}

/* Check the slot that the catalog names now, and use it. */
static int
reader_find_slot(Reader *self)
{
    int64_t word, at;
    PyObject *found = call(python.integrity, "checked_word", "(OOLL)", self->words,
                           self->geometry, (long long)self->entry_at,
                           (long long)self->entry_epoch);
    if (as_int64(found, &word) < 0) {
        reader_leave_slot(self);  /* the stream may be gone for good */
        return -1;
    }
    found = PyObject_CallMethod(self->geometry, "slot_word", "L",
                                (long long)(word & SHM_SLOT_MASK));
    if (as_int64(found, &at) < 0) {
        return -1;
    }
    reader_leave_slot(self);
    self->slot_at = at;
    self->slot = reader_segment_slot(self);
    self->word = word;
    return 0;
}

static inline bool
reader_is_carried(const Reader *self)
{
    return ring_load(self->entry + SHM_E_EPOCH) == self->entry_epoch;
}

/* Check the entry's epoch after loading values from the entry: 0, or -1 with
   StreamNotFoundError. */
static inline int
reader_check_carried(const Reader *self)
{
    /* B2, acquire: pairs with E2. */
    atomic_thread_fence(memory_order_acquire);
    if (reader_is_carried(self)) {
        return 0;
    }
    PyObject *none = call(python.integrity, "check_epoch", "(OLL)", self->words,
                          (long long)self->entry_at, (long long)self->entry_epoch);
    Py_XDECREF(none);
    return none == NULL ? -1 : 0;
}

static inline int
reader_current(Reader *self)
{
    /* R1, acquire: pairs with S4. */
    if (ring_load_acquire(self->entry + SHM_E_WORD) == self->word) {
        return 0;
    }
    return reader_find_slot(self);
}

/* Spend a retry: 0 to try again, -1 with BusyRingError or with the damage that a check
   of the catalog found. */
static int
reader_outrun(Reader *self, PyObject **budget, const char *what)
{
    if (*budget == NULL) {
        *budget = call(python.integrity, "retry_budget", "(sOOLL)", what, self->words,
                       self->geometry, (long long)self->entry_at,
                       (long long)self->entry_epoch);
        if (*budget == NULL) {
            return -1;
        }
    }
    PyObject *spent = PyObject_CallMethod(*budget, "spend", NULL);
    Py_XDECREF(spent);
    return spent == NULL ? -1 : 0;
}

/* Try once to get the newest `most` rows: 1 if they were intact, 0 if not, -1 on an error. */
static inline int
reader_window(Reader *self, int64_t most, int64_t *first, int64_t *last)
{
    if (reader_current(self) < 0) {
        return -1;
    }
    ring_slot slot = self->slot;
    ring_window(&slot, most, first, last);
    if (*last >= self->due) {
        reader_keep(self, *last);
        slot = self->slot;
    }
    return *first <= *last && ring_intact(&slot, self->word, *first);
}

static PyObject *
reader_view(Reader *self, PyObject *n)
{
    int64_t most, first, last;
    PyObject *budget = NULL;
    int intact;

    if (at_least_1("n", n, &most) < 0) {
        return NULL;
    }
    if (most > self->history) {
        most = self->history;
    }
    while ((intact = reader_window(self, most, &first, &last)) == 0 &&
           reader_outrun(self, &budget, "view") == 0) {
    }
    Py_XDECREF(budget);
    if (intact <= 0) {
        return NULL;
    }
    return reader_slice(self, first, last);
}

/* A range of close times, both included, and at most `most` rows of it. */
typedef struct {
    int64_t start, end, most;
} Range;

/* Try once to find the rows of a range: returns as reader_window does. `*newest` is the
   close time of the newest closed bar, 0 without one. */
static inline int
reader_search(Reader *self, const Range *range, int64_t *first, int64_t *last,
              int64_t *newest)
{
    int64_t oldest;
    int intact = reader_window(self, self->history, &oldest, last);
    if (intact <= 0) {
        return intact;
    }
    ring_slot slot = self->slot;
    int64_t found = ring_search(&slot, oldest, *last, range->start);
    int64_t after = *last;
    *newest = 0;
    if (oldest < *last) {
        *newest = ring_load(ring_row(&slot, *last - 1) +
                            SHM_C_CLOSE_TIME * ring_stride(&slot));
    }
    if (range->end < *newest) {
        after = ring_search(&slot, found, *last, range->end + 1);
    }
    *first = ring_minus(after, range->most);
    if (*first < found) {
        *first = found;
    }
    *last = after;
    return ring_intact(&slot, self->word, oldest);
}

/* Return the slice of a range, and the close time of the newest closed bar. */
static PyObject *
reader_range(Reader *self, const Range *range, int64_t *newest)
{
    int64_t first, last;
    PyObject *budget = NULL;
    int intact;

    while ((intact = reader_search(self, range, &first, &last, newest)) == 0 &&
           reader_outrun(self, &budget, "range") == 0) {
    }
    Py_XDECREF(budget);
    return intact <= 0 ? NULL : reader_slice(self, first, last);
}

static PyObject *
reader_between(Reader *self, PyObject *const *args, Py_ssize_t count)
{
    Range range;
    int64_t newest;
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "between() takes start, end and n");
        return NULL;
    }
    if (as_int64(Py_NewRef(args[0]), &range.start) < 0 ||
        as_int64(Py_NewRef(args[1]), &range.end) < 0 ||
        at_least_1("n", args[2], &range.most) < 0) {
        return NULL;
    }
    PyObject *slice = reader_range(self, &range, &newest);
    return slice == NULL ? NULL : Py_BuildValue("(NL)", slice, (long long)newest);
}

/* Copy the bar of the latch: 1 if there is one, 0 if not, -1 on an error. */
static int
reader_latch(Reader *self, int64_t *cells)
{
    ring_word *latch = self->entry + SHM_E_FORMING;
    PyObject *budget = NULL;
    latch_state found;

    while ((found = latch_read(latch, cells)) == LATCH_OUTRUN) {
        if (reader_outrun(self, &budget, "forming cells") < 0) {
            Py_XDECREF(budget);
            return -1;
        }
    }
    Py_XDECREF(budget);
    if (reader_check_carried(self) < 0) {
        return -1;
    }
    return found == LATCH_WHOLE && cells[0] != SHM_NO_BAR;
}

/* Copy the newest closed row: returns as reader_latch does. */
static int
reader_newest(Reader *self, int64_t *cells)
{
    PyObject *budget = NULL;
    int64_t row;
    int found;

    for (;;) {
        found = reader_current(self);
        if (found < 0) {
            break;
        }
        ring_slot slot = self->slot;
        found = ring_newest(&slot, cells, &row);
        if (ring_minus(row, -1) >= self->due) {
            reader_keep(self, ring_minus(row, -1));
            slot = self->slot;
        }
        if (ring_intact(&slot, self->word, row)) {
            break;
        }
        found = reader_outrun(self, &budget, "last closed bar");
        if (found < 0) {
            break;
        }
    }
    Py_XDECREF(budget);
    return found;
}

/* Copy the newest bar. The latch is read first: a bar that closes in between is then
   found among the rows. `*closed` is true if the bar is a closed one. */
static int
reader_newest_of_both(Reader *self, int64_t *cells, bool *closed)
{
    int64_t rows[SHM_COLUMNS];
    int forming = reader_latch(self, cells);
    if (forming < 0) {
        return -1;
    }
    int newest = reader_newest(self, rows);
    if (newest < 0) {
        return -1;
    }
    *closed = newest && (!forming || cells[0] <= rows[0]);
    if (*closed) {
        memcpy(cells, rows, sizeof rows);
    }
    return forming || newest;
}

/* Copy rows [first, last) into columns that are `stride` words apart. True if they were
   whole. */
static bool
reader_copy_columns(Reader *self, int64_t first, int64_t last, int64_t *into,
                    int64_t stride)
{
    if (last - first < ROWS_WITHOUT_GIL) {
        ring_copy(&self->slot, first, last, into, stride);
        return ring_intact(&self->slot, self->word, first);
    }
    /* Meanwhile another thread may let this reader look at another slot, or set this
       one's slices aside. In the second case the epoch at these addresses becomes 0. */
    ring_slot slot = self->slot;
    int64_t word = self->word;
    Area *area = (Area *)Py_XNewRef(self->area);
    Py_INCREF(self);
    Py_BEGIN_ALLOW_THREADS
    ring_copy(&slot, first, last, into, stride);
    Py_END_ALLOW_THREADS
    bool intact = ring_intact(&slot, word, first);
    Py_XDECREF(area);
    Py_DECREF(self);
    return intact;
}

/* Copy the rows [first, last) and, if it is newer, the bar in `cells`: at most `most`
   rows. NULL without an error if the rows were overwritten. */
static PyObject *
reader_copy(Reader *self, int64_t most, int64_t first, int64_t last,
            const int64_t *cells)
{
    int64_t newest =
        first < last ? ring_load(ring_row(&self->slot, last - 1)) : INT64_MIN;
    bool forming = cells != NULL && (first == last || cells[0] > newest);
    if (forming && last - first == most) {
        first++;
    }
    int64_t count = last - first, all = count + forming;
    Rows *rows = rows_alloc(first, all, forming);
    if (rows == NULL) {
        return NULL;
    }
    int64_t *into = (int64_t *)rows->words;
    if (!reader_copy_columns(self, first, last, into, all)) {
        Py_DECREF(rows);
        return NULL;
    }
    for (int column = 0; forming && column < SHM_COLUMNS; column++) {
        into[column * all + count] = cells[column];
    }
    return (PyObject *)rows;
}

static PyObject *
reader_snapshot_of(Reader *self, PyObject *n, PyObject *include_now)
{
    int64_t most, first, last, cells[SHM_COLUMNS];
    PyObject *budget = NULL, *rows = NULL;
    int with = flag("include_now", include_now);

    if (with < 0 || at_least_1("n", n, &most) < 0 ||
        (with && (with = reader_latch(self, cells)) < 0)) {
        return NULL;
    }
    if (most > self->history) {
        most = self->history;
    }
    for (;;) {
        int intact = reader_window(self, most, &first, &last);
        if (intact > 0) {
            rows = reader_copy(self, most, first, last, with ? cells : NULL);
        }
        if (intact < 0 || rows != NULL || PyErr_Occurred() ||
            reader_outrun(self, &budget, "snapshot") < 0) {
            break;
        }
    }
    Py_XDECREF(budget);
    return rows;
}

static Parameters snapshot_parameters = {"snapshot", 1, 2, {"n", "include_now"}, {0}};
static Parameters view_parameters = {"view", 1, 1, {"n"}, {0}};
static Parameters latest_parameters = {"latest", 1, 1, {"field"}, {0}};

static PyObject *
reader_snapshot(Reader *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    PyObject *given[2] = {NULL, Py_False};
    if (parse(&snapshot_parameters, args, count, names, given) < 0) {
        return NULL;
    }
    return reader_snapshot_of(self, given[0], given[1]);
}

static PyObject *
reader_view_named(Reader *self, PyObject *const *args, Py_ssize_t count,
                  PyObject *names)
{
    PyObject *n = NULL;
    if (parse(&view_parameters, args, count, names, &n) < 0) {
        return NULL;
    }
    return reader_view(self, n);
}

static PyObject *
reader_latest_of(Reader *self, PyObject *field)
{
    int64_t cells[SHM_COLUMNS];
    bool closed;
    int column = column_of(field);
    if (column < 0) {
        return NULL;
    }
    int found = reader_newest_of_both(self, cells, &closed);
    if (found < 0) {
        return NULL;
    }
    return found ? cell_value(cells, column) : PyFloat_FromDouble(NAN);
}

static PyObject *
reader_latest(Reader *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    PyObject *field = NULL;
    if (parse(&latest_parameters, args, count, names, &field) < 0) {
        return NULL;
    }
    return reader_latest_of(self, field);
}

static PyObject *
bar_or_none(int found, const int64_t *cells)
{
    if (found < 0) {
        return NULL;
    }
    return found ? make_bar(cells) : Py_NewRef(Py_None);
}

static PyObject *
reader_forming(Reader *self, PyObject *Py_UNUSED(none))
{
    int64_t cells[SHM_COLUMNS];
    bool closed = false;
    int found = reader_newest_of_both(self, cells, &closed);
    return bar_or_none(closed ? 0 : found, cells);
}

static PyObject *
reader_last_closed(Reader *self, PyObject *Py_UNUSED(none))
{
    int64_t cells[SHM_COLUMNS];
    return bar_or_none(reader_newest(self, cells), cells);
}

static PyObject *
reader_forming_cell(Reader *self, PyObject *Py_UNUSED(none))
{
    int64_t cells[SHM_COLUMNS];
    return bar_or_none(reader_latch(self, cells), cells);
}

/* Load the count of published rows: 0, or -1 with an error. */
static int
reader_published(Reader *self, int64_t *count)
{
    PyObject *budget = NULL;
    int intact;
    while ((intact = reader_current(self)) == 0 &&
           !(intact = ring_count(&self->slot, self->word, count)) &&
           reader_outrun(self, &budget, "count") == 0) {
    }
    Py_XDECREF(budget);
    if (intact > 0 && *count >= self->due) {
        reader_keep(self, *count);
    }
    return intact > 0 ? 0 : -1;
}

static PyObject *
reader_count(Reader *self, void *Py_UNUSED(closure))
{
    int64_t count;
    return reader_published(self, &count) < 0 ? NULL : PyLong_FromLongLong(count);
}

static PyObject *
reader_epoch(Reader *self, void *Py_UNUSED(closure))
{
    int64_t word = ring_load(self->entry + SHM_E_WORD);
    if (reader_check_carried(self) < 0) {
        return NULL;
    }
    return PyLong_FromLongLong(word >> SHM_SLOT_BITS);
}

static PyObject *
reader_updated(Reader *self, void *Py_UNUSED(closure))
{
    int64_t updated = ring_load(self->entry + SHM_E_UPDATED);
    return reader_check_carried(self) < 0 ? NULL : PyLong_FromLongLong(updated);
}

static PyObject *
reader_live_age(Reader *self, PyObject *number)
{
    int64_t most, age;
    if (as_int64(Py_NewRef(number), &most) < 0) {
        return NULL;
    }
    bool live = ring_is_live(self->segment, self->entry, boot_ns(), most, &age);
    /* The epoch is loaded last: the values above are those of this stream. */
    atomic_thread_fence(memory_order_acquire);
    if (!live || !reader_is_carried(self)) {
        Py_RETURN_NONE;
    }
    return PyFloat_FromDouble((double)age / 1e9);
}

static PyObject *
reader_carried(Reader *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(reader_is_carried(self));
}

static PyObject *
reader_check(Reader *self, PyObject *Py_UNUSED(none))
{
    return reader_check_carried(self) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
reader_is_current(Reader *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(ring_is_current(self->segment, boot_ns()));
}

static PyObject *
reader_lapped(Reader *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(self->tally->lapped);
}

static PyObject *
reader_lost(Reader *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(self->tally->lost);
}

static int
reader_bind(Reader *self, PyObject *index, int access)
{
    PyObject *entry = call(python.integrity, "check_entry", "(OOO)", self->words,
                           self->geometry, index);
    if (as_int64(entry, &self->entry_at) < 0 ||
        as_int64(PyNumber_Index(index), &self->index) < 0 ||
        take_int(self->geometry, "history", &self->history) < 0 ||
        take_int(self->geometry, "capacity", &self->capacity) < 0 ||
        take_int(self->geometry, "guard", &self->guard) < 0) {
        return -1;
    }
    self->due = INT64_MAX;
    self->tally = PyMem_Calloc(1, sizeof *self->tally);
    if (self->tally == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->tally->references = 1;
    int64_t mapped;
    if (take_int(self->words, "mapped", &mapped) < 0) {
        return -1;
    }
    self->mapped = mapped;
    PyObject *raw = PyObject_GetAttrString(self->words, "raw");
    if (raw == NULL) {
        return -1;
    }
    int bound = PyObject_GetBuffer(raw, &self->buffer, access);
    Py_DECREF(raw);
    if (bound < 0) {
        return -1;
    }
    self->segment = self->buffer.buf;
    self->entry = self->segment + self->entry_at;
    /* Acquire: the entry is read after its epoch. */
    self->entry_epoch = ring_load_acquire(self->entry + SHM_E_EPOCH);
    return reader_find_slot(self);
}

static PyObject *
reader_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"words", "geometry", "index", NULL};
    PyObject *words, *geometry, *index;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OOO", names, &words, &geometry,
                                     &index)) {
        return NULL;
    }
    Reader *self = (Reader *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->words = Py_NewRef(words);
    self->geometry = Py_NewRef(geometry);
    if (reader_bind(self, index, PyBUF_SIMPLE) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void
reader_dealloc(Reader *self)
{
    reader_leave_slot(self);
    tally_release(self->tally);
    if (self->buffer.obj != NULL) {
        PyBuffer_Release(&self->buffer);
    }
    Py_XDECREF(self->words);
    Py_XDECREF(self->geometry);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

#define NAMED METH_FASTCALL | METH_KEYWORDS
#define FUNCTION(name) (PyCFunction)(void (*)(void))(name)

static PyMethodDef reader_methods[] = {
    {"view", FUNCTION(reader_view_named), NAMED, DOC_RingReader_view},
    {"between", FUNCTION(reader_between), METH_FASTCALL, DOC_RingReader_between},
    {"snapshot", FUNCTION(reader_snapshot), NAMED, DOC_RingReader_snapshot},
    {"latest", FUNCTION(reader_latest), NAMED, DOC_RingReader_latest},
    {"forming", (PyCFunction)reader_forming, METH_NOARGS, DOC_RingReader_forming},
    {"check_carried", (PyCFunction)reader_check, METH_NOARGS,
     DOC_BoundEntry_check_carried},
    {"live_age", (PyCFunction)reader_live_age, METH_O, DOC_BoundEntry_live_age},
    {"last_closed", (PyCFunction)reader_last_closed, METH_NOARGS,
     DOC_RingReader_last_closed},
    {"forming_cell", (PyCFunction)reader_forming_cell, METH_NOARGS,
     DOC_BoundEntry_forming_cell},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef reader_members[] = {
    {"words", T_OBJECT, offsetof(Reader, words), READONLY, NULL},
    {"geometry", T_OBJECT, offsetof(Reader, geometry), READONLY, NULL},
    {"entry", T_LONGLONG, offsetof(Reader, entry_at), READONLY, NULL},
    {"entry_epoch", T_LONGLONG, offsetof(Reader, entry_epoch), READONLY, NULL},
    {"index", T_LONGLONG, offsetof(Reader, index), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef reader_getset[] = {
    {"count", (getter)reader_count, NULL, DOC_RingReader_count, NULL},
    {"epoch", (getter)reader_epoch, NULL, DOC_RingReader_epoch, NULL},
    {"updated", (getter)reader_updated, NULL, DOC_BoundEntry_updated, NULL},
    {"is_carried", (getter)reader_carried, NULL, DOC_BoundEntry_is_carried, NULL},
    {"is_current", (getter)reader_is_current, NULL, DOC_BoundEntry_is_current, NULL},
    {"lapped", (getter)reader_lapped, NULL, DOC_RingReader_lapped, NULL},
    {"lost", (getter)reader_lost, NULL, DOC_RingReader_lost, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject ReaderType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmfeed._ringbuf.RingReader",
    .tp_basicsize = sizeof(Reader),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = DOC_RingReader___init__ DOC_RingReader,
    .tp_new = reader_new,
    .tp_dealloc = (destructor)reader_dealloc,
    .tp_methods = reader_methods,
    .tp_members = reader_members,
    .tp_getset = reader_getset,
};

#endif
