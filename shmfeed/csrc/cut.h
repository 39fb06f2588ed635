/* read_cut and read_list, as shmfeed/cutting.py defines them. */
#ifndef SHM_CUT_H
#define SHM_CUT_H

#include "follower.h"

/* The rows of one ring, from which the cut takes its own. */
typedef struct {
    Reader *reader;
    ring_slot slot;
    int64_t word;
    int64_t oldest;     /* the first row that was looked at */
    int64_t published;  /* the number of rows then */
    int64_t first;
    int64_t last;
    int64_t newest;  /* rows up to the newest common close time, from `first` on */
    int64_t newest_time;  /* of read_list: the close time of the newest row, 0 without */
    bool moved;      /* take and copy it again */
} CutRing;

typedef struct {
    CutRing *rings;
    Py_ssize_t count;
    int columns[SHM_FLOATS];
    int fields;
    bool align;
    bool listed;         /* of read_list */
    bool bounded;        /* only rows of `range` are chosen */
    Range range;
    int64_t most;
    int64_t reach;       /* rows of a ring that are looked at */
    int64_t rows;        /* chosen rows; -1 before the first choice */
    bool has_holes;      /* the chosen rows of a ring may not be adjacent */
    int64_t *times;      /* scratch of `reach` words: the chosen close times */
    int64_t *places;     /* scratch of `reach` words: a ring's rows at these times */
    PyArrayObject *values;
    PyArrayObject *close_time;
    PyObject *budget;
} Cut;

#define CUT_WITHOUT_GIL (1 << 18)  /* words, about 1 ms */

static inline int64_t
cut_length(const CutRing *ring)
{
    return ring->first < ring->last ? ring->last - ring->first : 0;
}

/* The first row of the ring's window in a column. */
static inline const ring_word *
cut_column(const CutRing *ring, int column)
{
    return ring_row(&ring->slot, ring->first) + column * ring_stride(&ring->slot);
}

static inline int64_t
cut_close_time(const CutRing *ring, int64_t row)
{
    return ring_load(cut_column(ring, CLOSE_TIMES) + row);
}

/* Leave only the rows of the range, at most `most` of them. A row that is overwritten
   meanwhile may have any time; C4 finds it. */
static void
cut_narrow(CutRing *ring, const Range *range)
{
    int64_t found = ring_search(&ring->slot, ring->first, ring->last, range->start);
    if (range->end < ring->newest_time) {
        ring->last = ring_search(&ring->slot, found, ring->last, range->end + 1);
    }
    ring->first = ring_minus(ring->last, range->most);
    if (ring->first < found) {
        ring->first = found;
    }
}

/* Load word and window, C1: 1, 0 if the word is not that of before, -1 on an error. */
static int
cut_take(const Cut *cut, CutRing *ring)
{
    int64_t before = ring->word;
    if (reader_current(ring->reader) < 0) {
        return -1;
    }
    ring->word = ring->reader->word;
    /* Not the reader's area: another ring of the cut may share the reader and leave it. */
    ring->slot = reader_segment_slot(ring->reader);
    ring_window(&ring->slot, cut->reach, &ring->first, &ring->last);
    ring->oldest = ring->first;
    ring->published = ring->last;
    if (ring->last >= ring->reader->due) {
        reader_keep(ring->reader, ring->last);
    }
    if (cut->listed) {
        int64_t rows = cut_length(ring);
        ring->newest_time = rows > 0 ? cut_close_time(ring, rows - 1) : 0;
        if (cut->bounded && rows > 0) {
            cut_narrow(ring, &cut->range);
        }
    }
    return ring->word == before;
}

/* True if the ring did not move since C1, C4. */
static bool
cut_held(const CutRing *ring, bool with_count)
{
    return ring->oldest <= ring->published &&
           ring_intact(&ring->slot, ring->word, ring->oldest) &&
           ring_load_acquire(ring->reader->entry + SHM_E_WORD) == ring->word &&
           (!with_count ||
            ring_load_acquire(ring->slot.header + SHM_S_PUBLISHED) == ring->published);
}

/* Lower `*time` to the newest close time that all rings with rows have; return false if
   they have none in common. A row that is overwritten meanwhile may have any time; C4
   finds it. */
static bool
cut_agree(Cut *cut, int64_t *time)
{
    Py_ssize_t agreed = 0, k = 0;
    while (agreed < cut->count) {
        CutRing *ring = &cut->rings[k];
        int64_t found = *time;
        if (cut_length(ring) > 0) {
            while (ring->newest > 0 &&
                   (found = cut_close_time(ring, ring->newest - 1)) > *time) {
                ring->newest--;
            }
            if (ring->newest == 0) {
                return false;
            }
        }
        agreed = found < *time ? 1 : agreed + 1;
        *time = found;
        k = k + 1 < cut->count ? k + 1 : 0;
    }
    return true;
}

/* Compare the `rows` newest common rows of a ring with `times`. */
static bool
cut_has_times(const CutRing *ring, const int64_t *times, int64_t rows)
{
    const ring_word *own = cut_column(ring, CLOSE_TIMES) + ring->newest - rows;
    int64_t differing = 0;
    for (int64_t row = 0; row < rows; row++) {
        differing |= ring_load(own + row) ^ times[row];
    }
    return differing == 0;
}

/* Fill `times` with the newest common close times, C2, and return their number. */
static int64_t
cut_common_times(Cut *cut)
{
    int64_t time = INT64_MAX, rows = cut->most, found = 0;
    const CutRing *one = NULL;

    cut->has_holes = false;
    for (Py_ssize_t k = 0; k < cut->count; k++) {
        cut->rings[k].newest = cut_length(&cut->rings[k]);
        if (one == NULL && cut->rings[k].newest > 0) {
            one = &cut->rings[k];
        }
    }
    if (one == NULL || !cut_agree(cut, &time)) {
        return 0;
    }
    for (Py_ssize_t k = 0; k < cut->count; k++) {
        int64_t newest = cut->rings[k].newest;
        if (cut_length(&cut->rings[k]) > 0 && newest < rows) {
            rows = newest;
        }
    }
    for (int64_t row = 0; row < rows; row++) {
        cut->times[row] = cut_close_time(one, one->newest - rows + row);
    }
    for (Py_ssize_t k = 0; k < cut->count && !cut->has_holes; k++) {
        cut->has_holes = cut_length(&cut->rings[k]) > 0 &&
                         !cut_has_times(&cut->rings[k], cut->times, rows);
    }
    if (!cut->has_holes) {  /* the usual case */
        return rows;
    }
    do {
        cut->times[cut->most - ++found] = time--;
    } while (found < cut->most && cut_agree(cut, &time));
    memmove(cut->times, cut->times + cut->most - found, (size_t)found * SHM_WORD);
    return found;
}

/* Allocate the arrays for `rows` rows, and mark all rings to be copied. */
static int
cut_allocate(Cut *cut, int64_t rows)
{
    npy_intp shape[3] = {cut->fields, (npy_intp)cut->count, (npy_intp)rows};
    PyObject *values = PyArray_SimpleNew(3, shape, NPY_FLOAT64);
    PyObject *close_time =
        PyArray_SimpleNew(cut->align ? 1 : 2, shape + (cut->align ? 2 : 1), NPY_INT64);
    Py_XSETREF(cut->values, (PyArrayObject *)values);
    Py_XSETREF(cut->close_time, (PyArrayObject *)close_time);
    if (values == NULL || close_time == NULL) {
        return -1;
    }
    cut->rows = rows;
    if (cut->align && rows > 0) {
        memcpy(PyArray_DATA(cut->close_time), cut->times, (size_t)rows * SHM_WORD);
    }
    for (Py_ssize_t k = 0; k < cut->count; k++) {
        cut->rings[k].moved = true;
    }
    return 0;
}

/* Choose the rows, C2. */
static int
cut_choose(Cut *cut)
{
    int64_t rows = 0;
    if (cut->align) {
        rows = cut_common_times(cut);
        if (rows == cut->rows &&
            (rows == 0 || memcmp(PyArray_DATA(cut->close_time), cut->times,
                                 (size_t)rows * SHM_WORD) == 0)) {
            return 0;
        }
    } else {
        for (Py_ssize_t k = 0; k < cut->count; k++) {
            int64_t length = cut_length(&cut->rings[k]);
            rows = length > rows ? length : rows;
        }
        if (rows == cut->rows) {
            return 0;
        }
    }
    return cut_allocate(cut, rows);
}

static inline void
cut_copy_run(const ring_word *from, int64_t rows, int64_t *into)
{
#pragma GCC unroll 8
    for (int64_t row = 0; row < rows; row++) {
        into[row] = ring_load(from + row);
    }
}

static void
cut_fill(int64_t value, int64_t rows, int64_t *into)
{
    for (int64_t row = 0; row < rows; row++) {
        into[row] = value;
    }
}

/* Find the ring's rows at the chosen close times. */
static void
cut_find_places(const Cut *cut, const CutRing *ring)
{
    int64_t place = cut_length(ring) - 1;
    for (int64_t row = cut->rows - 1; row >= 0; row--) {
        while (place > 0 && cut_close_time(ring, place) > cut->times[row]) {
            place--;
        }
        cut->places[row] = place;
    }
}

/* Copy the chosen rows of ring `k`, C3. */
static void
cut_copy(Cut *cut, Py_ssize_t k)
{
    const CutRing *ring = &cut->rings[k];
    int64_t rows = cut->rows, length = cut_length(ring);
    int64_t copied = !cut->align || length == 0 ? length : rows, padding = rows - copied;
    int64_t start = cut->align ? ring->newest - copied : 0;
    bool gather = cut->align && cut->has_holes && length > 0;

    if (gather) {
        cut_find_places(cut, ring);
    }
    for (int field = 0; field < cut->fields; field++) {
        const ring_word *from = cut_column(ring, cut->columns[field]);
        int64_t *into = (int64_t *)PyArray_DATA(cut->values) +
                        (field * cut->count + k) * rows;
        cut_fill(as_cell(NAN), padding, into);
        if (!gather) {
            cut_copy_run(from + start, copied, into + padding);
            continue;
        }
        for (int64_t row = 0; row < rows; row++) {
            into[row] = ring_load(from + cut->places[row]);
        }
    }
    if (!cut->align) {
        int64_t *into = (int64_t *)PyArray_DATA(cut->close_time) + k * rows;
        cut_fill(0, padding, into);
        cut_copy_run(cut_column(ring, CLOSE_TIMES), copied, into + padding);
    }
}

/* Copy all rings that moved, C3. Large copies release the GIL: the readers hold the
   segment mapped, and no other thread has the arrays yet. */
static void
cut_copy_moved(Cut *cut)
{
    int64_t words = cut->rows * cut->count * cut->fields;
    PyThreadState *state = words < CUT_WITHOUT_GIL ? NULL : PyEval_SaveThread();
    for (Py_ssize_t k = 0; k < cut->count; k++) {
        if (cut->rings[k].moved) {
            cut_copy(cut, k);
        }
    }
    if (state != NULL) {
        PyEval_RestoreThread(state);
    }
}

/* Take and copy the rings that moved: 1 if all held then, 0 if not, -1 on an error. */
static int
cut_pass(Cut *cut)
{
    bool swapped = false, moved = false;
    for (Py_ssize_t k = 0; k < cut->count; k++) {
        if (cut->rings[k].moved) {
            int taken = cut_take(cut, &cut->rings[k]);
            if (taken < 0) {
                return -1;
            }
            swapped = swapped || !taken;
        }
    }
    if (cut->align && swapped) {
        return 0;
    }
    if (cut_choose(cut) < 0) {
        return -1;
    }
    cut_copy_moved(cut);
    for (Py_ssize_t k = 0; k < cut->count; k++) {
        cut->rings[k].moved = !cut_held(&cut->rings[k], !cut->align);
        moved = moved || cut->rings[k].moved;
    }
    for (Py_ssize_t k = 0; k < cut->count && cut->align; k++) {
        cut->rings[k].moved = moved;
    }
    return !moved;
}

static int
cut_read(Cut *cut)
{
    int held;
    while ((held = cut_pass(cut)) == 0) {
        Py_ssize_t k = 0;
        while (!cut->rings[k].moved) {
            k++;
        }
        if (reader_outrun(cut->rings[k].reader, &cut->budget, "cut") < 0) {
            return -1;
        }
    }
    return held;
}

/* Hold the readers of all rings: 1, 0 if they are not of one segment, -1 on an error. */
static int
cut_bind(Cut *cut, PyObject *rings)
{
    for (Py_ssize_t k = 0; k < cut->count; k++) {
        PyObject *ring = PyTuple_GET_ITEM(rings, k);
        if (!PyObject_TypeCheck(ring, &ReattachingReaderType)) {
            return 0;
        }
        Reader *reader = reattaching_current((ReattachingReader *)ring);
        if (reader == NULL) {
            return -1;
        }
        cut->rings[k].reader = reader;
        cut->rings[k].word = reader->word;
        cut->rings[k].moved = true;
        if (reader->segment != cut->rings[0].reader->segment) {
            return 0;
        }
    }
    return 1;
}

static int
cut_set_columns(Cut *cut, PyObject *fields)
{
    Py_ssize_t count = PyTuple_Check(fields) ? PyTuple_GET_SIZE(fields) : 0;
    bool accepted = count > 0 && count <= SHM_FLOATS, seen[SHM_COLUMNS] = {false};
    for (Py_ssize_t i = 0; accepted && i < count; i++) {
        PyObject *field = PyTuple_GET_ITEM(fields, i);
        PyObject *number = PyUnicode_Check(field)
                               ? PyDict_GetItemWithError(python.numbers, field)
                               : NULL;
        int column = number == NULL ? 0 : (int)PyLong_AsLong(number);
        accepted = !is_int_column(column) && !seen[column];
        seen[column] = true;
        cut->columns[i] = column;
    }
    cut->fields = (int)count;
    if (!accepted && !PyErr_Occurred()) {
        Py_XDECREF(call(python.cutting, "cut_columns", "(O)", fields));
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_RuntimeError,
                            "cutting.cut_columns and cut_set_columns differ");
        }
    }
    return accepted ? 0 : -1;
}

static PyObject *
cut_result(const Cut *cut)
{
    PyObject *missing = PyList_New(0);
    for (Py_ssize_t k = 0; missing != NULL && k < cut->count; k++) {
        if (cut_length(&cut->rings[k]) == 0) {
            PyObject *number = PyLong_FromSsize_t(k);
            if (number == NULL || PyList_Append(missing, number) < 0) {
                Py_CLEAR(missing);
            }
            Py_XDECREF(number);
        }
    }
    return missing == NULL
               ? NULL
               : Py_BuildValue("(OON)", cut->values, cut->close_time, missing);
}

static void
cut_release(Cut *cut)
{
    for (Py_ssize_t k = 0; cut->rings != NULL && k < cut->count; k++) {
        Py_XDECREF(cut->rings[k].reader);
    }
    PyMem_Free(cut->rings);
    PyMem_Free(cut->times);
    PyMem_Free(cut->places);
    Py_XDECREF(cut->values);
    Py_XDECREF(cut->close_time);
    Py_XDECREF(cut->budget);
}

/* Prepare the cut of bound rings: the sizes, and the scratch that `align` needs. */
static int
cut_prepare(Cut *cut)
{
    int64_t history = cut->rings[0].reader->history;
    if (cut->most > history) {
        cut->most = history;
    }
    cut->reach = cut->align || cut->bounded ? history : cut->most;
    cut->range.most = cut->most;
    cut->rows = -1;
    if (!cut->align) {
        return 0;
    }
    cut->times = PyMem_Calloc((size_t)cut->most, SHM_WORD);
    cut->places = PyMem_Calloc((size_t)cut->most, SHM_WORD);
    if (cut->times == NULL || cut->places == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* Take n and fields. */
static int
cut_take_arguments(Cut *cut, PyObject *const *args)
{
    return at_least_1("n", args[1], &cut->most) < 0 ? -1 : cut_set_columns(cut, args[2]);
}

/* Read the rings: 1, 0 if they are not of one segment, -1 on an error. The caller releases
   the cut. */
static int
cut_run(Cut *cut, PyObject *rings)
{
    cut->count = PyTuple_GET_SIZE(rings);
    if (cut->count == 0) {
        return 0;
    }
    cut->rings = PyMem_Calloc((size_t)cut->count, sizeof *cut->rings);
    if (cut->rings == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int bound = cut_bind(cut, rings);
    if (bound > 0 && (cut_prepare(cut) < 0 || cut_read(cut) < 0)) {
        bound = -1;
    }
    return bound;
}

/* Return the result of a cut, which is released. */
static PyObject *
cut_finish(Cut *cut, int found, PyObject *result)
{
    cut_release(cut);
    return found == 0 ? Py_NewRef(Py_None) : result;
}

static PyObject *
read_cut(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    Cut cut = {0};
    int align;

    if (count != 4 || !PyTuple_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError,
                        "read_cut() takes a tuple of rings, n, fields and align");
        return NULL;
    }
    if (cut_take_arguments(&cut, args) < 0 || (align = flag("align", args[3])) < 0) {
        return NULL;
    }
    cut.align = align;
    int found = cut_run(&cut, args[0]);
    return cut_finish(&cut, found, found > 0 ? cut_result(&cut) : NULL);
}

/* True if all rings have rows of the same close times. */
static bool
cut_is_even(const Cut *cut)
{
    const int64_t *times = PyArray_DATA(cut->close_time);
    for (Py_ssize_t k = 0; k < cut->count; k++) {
        if (cut_length(&cut->rings[k]) != cut->rows ||
            memcmp(times, times + k * cut->rows, (size_t)cut->rows * SHM_WORD) != 0) {
            return false;
        }
    }
    return cut->rows > 0;
}

/* Return the largest age of the rings' streams, None if one of them is not live. */
static PyObject *
cut_age(const Cut *cut, int64_t quiet)
{
    int64_t age, oldest = 0, now = boot_ns();
    for (Py_ssize_t k = 0; k < cut->count; k++) {
        const Reader *reader = cut->rings[k].reader;
        if (!ring_is_live(reader->segment, reader->entry, now, quiet, &age) ||
            !reader_is_carried(reader)) {
            Py_RETURN_NONE;
        }
        oldest = age > oldest ? age : oldest;
    }
    return PyFloat_FromDouble((double)oldest / 1e9);
}

/* The slices of these rings that were lost. */
static int64_t
cut_lost(PyObject *rings)
{
    int64_t lost = 0;
    for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(rings); k++) {
        lost += reattaching_count_lost((ReattachingReader *)PyTuple_GET_ITEM(rings, k));
    }
    return lost;
}

static PyObject *
list_result(const Cut *cut, PyObject *rings, int64_t quiet)
{
    npy_intp count = (npy_intp)cut->count;
    PyObject *newest = PyArray_SimpleNew(1, &count, NPY_INT64);
    PyObject *epochs = PyArray_SimpleNew(1, &count, NPY_INT64);
    PyObject *age = newest == NULL || epochs == NULL ? NULL : cut_age(cut, quiet);
    if (age == NULL) {
        Py_XDECREF(newest);
        Py_XDECREF(epochs);
        return NULL;
    }
    for (Py_ssize_t k = 0; k < cut->count; k++) {
        ((int64_t *)PyArray_DATA((PyArrayObject *)newest))[k] = cut->rings[k].newest_time;
        ((int64_t *)PyArray_DATA((PyArrayObject *)epochs))[k] =
            cut->rings[k].word >> SHM_SLOT_BITS;
    }
    return Py_BuildValue("(OONNONL)", cut->values, cut->close_time, newest, epochs,
                         cut_is_even(cut) ? Py_True : Py_False, age,
                         (long long)cut_lost(rings));
}

static PyObject *
read_list(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    Cut cut = {.listed = true};
    int64_t quiet;

    if (count != 5 || !PyTuple_Check(args[0]) ||
        !(args[3] == Py_None || PyTuple_Check(args[3]))) {
        PyErr_SetString(PyExc_TypeError, "read_list() takes a tuple of rings, n, fields,"
                                         " a tuple of bounds or None, and quiet");
        return NULL;
    }
    cut.bounded = args[3] != Py_None;
    if (cut_take_arguments(&cut, args) < 0 || as_int64(Py_NewRef(args[4]), &quiet) < 0 ||
        (cut.bounded && !PyArg_ParseTuple(args[3], "LL", &cut.range.start,
                                          &cut.range.end))) {
        return NULL;
    }
    int found = cut_run(&cut, args[0]);
    return cut_finish(&cut, found,
                      found > 0 ? list_result(&cut, args[0], quiet) : NULL);
}

#define CUT_METHODS \
    {"read_cut", (PyCFunction)(void (*)(void))read_cut, METH_FASTCALL, DOC_read_cut}, \
    {"read_list", (PyCFunction)(void (*)(void))read_list, METH_FASTCALL, DOC_read_list},

#endif
