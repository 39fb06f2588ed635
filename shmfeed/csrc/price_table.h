/* PriceTable: the usual calls of get_price, and of get_bars for an array, without any Python
   code. The definitions are CachedQuery and CachedListQuery of wealthdata; a call that is not
   a usual one is answered with None, and Python decides. */
#ifndef SHM_PRICE_TABLE_H
#define SHM_PRICE_TABLE_H

#include "bar_array.h"
#include "dict_version.h"
#include "follower.h"
#include "frame.h"
#include "last_read.h"
#include "long_frame.h"
#include "moment.h"
#include "own_context.h"
#include "read_record.h"

/* What a table takes from Python: wealthdata/price_table.py explains it. */
typedef struct {
    PyObject_HEAD
    PyObject *environment, *context, *must_be_empty;
    PyObject *read_live;  /* the value of `context` of a thread that has read live bars */
    PyObject *setting_type, *settings;  /* its type where a context is set; all of them */
    uint64_t trusted;     /* the version of the environment in which calls are served */
    PyTypeObject *attrs_type;  /* FrameAttrs */
    Py_ssize_t record_at;      /* the offset of its slot `_record` */
    int64_t most_age;  /* ns; an older update may be that of an outage */
    PyObject *bars_of_task;  /* called: the current task's dict, of a LastRead */
    PyObject *found;   /* the Read of the last call, or NULL */
    PyObject *texts, *to_moment;  /* of moment.h */
    PyObject *behind_warned;  /* the streams of which BehindWarning was given */
    PyObject *reads;   /* a dict: (security, frequency, fields, feed) to Read */
} PriceTable;

typedef struct {
    PyObject_HEAD
    PyObject *key, *ring, *attrs, *facts;
    PyObject *builder;  /* of frames of one security, a LongBuilder's of a list, or of arrays */
    int64_t step;   /* ms, 0 for months */
    int64_t quiet;  /* ns without an update until the stream is no longer live */
    int64_t lost;   /* frames of the ring that Python has been told of */
    int64_t started;  /* start of the feeder whose identity Python has checked */
    int64_t max_age;  /* ns, of a call that gives none; INT64_MAX: the stream is live */
    int64_t heeds;    /* of HEEDS, those of a call that gives no reactions */
    PyObject *stream;  /* (feed, symbol, timeframe) */
    LastRead last;
    int64_t label;     /* of a call that gives none, a row_label */
    int64_t has_dates;  /* a bar lasts a day or longer, so that a date is a whole day */
    int64_t copies;     /* frames are private memory */
} Read;

/* The reactions for which rows that are not whole are Python's to judge, by argument. */
enum { HEED_GAP = 1, HEED_SHORT = 2, HEED_UNCONFIRMED = 4 };

/* The arguments of one call, as far as they are not in the key of a Read. */
typedef struct {
    PyObject *count;
    int64_t rows;     /* the same as a number */
    int64_t max_age;  /* ns, -1: not given */
    int64_t given, heeds;
    row_label label;  /* if `has_label` */
    bool has_label;
    bool include_now;
    bool copy;
    bool is_range;    /* of `range`, else the newest rows */
    Range range;
    int64_t behind;   /* ms, set by the read: what the range's end leaves out */
    int64_t newest;   /* set by the read: close time of the ring's newest row */
} Asked;

#define MOST_BEHIND 54000000LL  /* ms: more than a forgotten time zone leaves out */

#define MOST_READS 4096
/* The flags of bar.py that are counted. */
enum { ROW_UNCONFIRMED = 8, ROW_POLLED = 256, ROW_REVISED = 64 };
/* read() takes a tuple: security, frequency, fields, feed, count, flags, the label, and
   reactions. */
enum {
    READ_COUNT = 4,
    READ_INCLUDE_NOW,
    READ_COPY,
    READ_SHAPE,  /* and the next: False in a usual call */
    READ_LABEL = 9,
    READ_MAX_AGE,
    READ_ON_STALE,
    READ_ON_GAP,
    READ_ARGUMENTS = 15,
};

static PyTypeObject ReadType;
static PyTypeObject PriceTableType;

static void
read_dealloc(Read *self)
{
    Py_XDECREF(self->ring);
    Py_XDECREF(self->builder);
    Py_XDECREF(self->attrs);
    Py_XDECREF(self->facts);
    Py_XDECREF(self->stream);
    last_read_end(&self->last);
    Py_XDECREF(self->key);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject ReadType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmfeed._ringbuf.Read",
    .tp_basicsize = sizeof(Read),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)read_dealloc,
};

static int64_t
lost_slices(const Read *read)
{
    return reattaching_count_lost((const ReattachingReader *)read->ring);
}

static int
read_keep_last(const Read *self)
{
    return last_read_keep(&self->last, self->stream);
}

/* Put what each read has given last into the dict of its task. 0, or -1 on an error. */
static int
table_keep_last(const PriceTable *self)
{
    PyObject *read;
    Py_ssize_t at = 0;
    while (PyDict_Next(self->reads, &at, NULL, &read)) {
        if (read_keep_last((const Read *)read) < 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *
table_keep_reads(PriceTable *self, PyObject *Py_UNUSED(none))
{
    return table_keep_last(self) < 0 ? NULL : Py_NewRef(Py_None);
}

/* Return what a read has given last: its stream, its attrs and facts, and the numbers of
   the rows in their epoch. */
static PyObject *
read_window(const Read *self)
{
    const LastRead *last = &self->last;
    return Py_BuildValue("(OOOLLLO)", self->stream, self->attrs, self->facts,
                         (long long)last->first, (long long)last->end,
                         (long long)(last->word >> SHM_SLOT_BITS),
                         last->own == NULL ? Py_None : last->own);
}

static PyObject *
table_take_windows(PriceTable *self, PyObject *bars)
{
    PyObject *read, *windows = PyList_New(0);
    Py_ssize_t at = 0;
    int failed = windows == NULL;
    while (!failed && PyDict_Next(self->reads, &at, NULL, &read)) {
        LastRead *last = &((Read *)read)->last;
        if (last->bars == bars && (last->end > 0 || last->own != NULL)) {
            PyObject *window = read_window((const Read *)read);
            last->end = 0;
            Py_CLEAR(last->own);
            failed = window == NULL || PyList_Append(windows, window) < 0;
            Py_XDECREF(window);
        }
    }
    return put_all(windows, failed);
}

static PyObject *
table_clear(PriceTable *self, PyObject *Py_UNUSED(none))
{
    int failed = table_keep_last(self) < 0;
    Py_CLEAR(self->found);
    PyDict_Clear(self->reads);
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyObject *
table_add(PriceTable *self, PyObject *args)
{
    PyObject *key, *ring, *builder, *attrs, *facts, *stream;
    long long step, quiet, started, max_age, heeds, label, has_dates, copies;
    if (!PyArg_ParseTuple(args, "O!(O!OO!OLLLLLOLLL)", &PyTuple_Type, &key,
                          &ReattachingReaderType, &ring, &builder, &PyDict_Type, &attrs,
                          &facts, &step, &quiet, &started, &max_age, &heeds, &stream,
                          &label, &has_dates, &copies)) {
        return NULL;
    }
    if (!Py_IS_TYPE(builder, &FrameBuilderType) &&
        !Py_IS_TYPE(builder, &LongBuilderType) &&
        !Py_IS_TYPE(builder, &ArrayBuilderType)) {
        PyErr_SetString(PyExc_TypeError, "the builder is not a compiled one");
        return NULL;
    }
    Py_CLEAR(self->found);
    if (PyDict_GET_SIZE(self->reads) >= MOST_READS) {
        PyObject *done = table_clear(self, NULL);
        if (done == NULL) {
            return NULL;
        }
        Py_DECREF(done);
    }
    Read *read = PyObject_New(Read, &ReadType);
    if (read == NULL) {
        return NULL;
    }
    read->key = Py_NewRef(key);
    read->ring = Py_NewRef(ring);
    read->builder = Py_NewRef(builder);
    read->attrs = Py_NewRef(attrs);
    read->facts = Py_NewRef(facts);
    read->step = step;
    read->quiet = quiet;
    read->started = started;
    read->max_age = max_age;
    read->heeds = heeds;
    read->label = label;
    read->has_dates = has_dates;
    read->copies = copies;
    read->lost = lost_slices(read);
    read->stream = Py_NewRef(stream);
    last_read_begin(&read->last);
    PyObject *replaced = PyDict_GetItemWithError(self->reads, key);
    int failed = replaced == NULL ? PyErr_Occurred() != NULL
                                  : read_keep_last((const Read *)replaced) < 0;
    failed = failed || PyDict_SetItem(self->reads, key, (PyObject *)read) < 0;
    Py_DECREF(read);
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyObject *
table_version(PriceTable *self, PyObject *Py_UNUSED(none))
{
    return PyLong_FromUnsignedLongLong(dict_version(self->environment));
}

static PyObject *
table_trust(PriceTable *self, PyObject *version)
{
    self->trusted = PyLong_AsUnsignedLongLong(version);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

/* Return the read of these arguments, a new reference; NULL if the table lacks it, or with
   an error. */
static Read *
table_look_up(PriceTable *self, PyObject *security, PyObject *frequency,
              PyObject *fields, PyObject *feed)
{
    bool listed = PyList_CheckExact(security) && PyList_GET_SIZE(security) == 1;
    PyObject *symbol = listed ? PyList_GET_ITEM(security, 0) : security;
    if (!PyUnicode_CheckExact(symbol) || !PyUnicode_CheckExact(frequency) ||
        !(fields == Py_None || PyUnicode_CheckExact(fields) ||
          PyTuple_CheckExact(fields)) ||
        !(feed == Py_None || PyUnicode_CheckExact(feed))) {
        return NULL;
    }
    /* The key has a list as a tuple. */
    PyObject *asked = listed ? PyTuple_Pack(1, symbol) : Py_NewRef(symbol);
    PyObject *key = asked == NULL ? NULL : PyTuple_Pack(4, asked, frequency, fields, feed);
    Py_XDECREF(asked);
    if (key == NULL) {
        return NULL;
    }
    PyObject *found = PyDict_GetItemWithError(self->reads, key);
    Py_XINCREF(found);
    Py_DECREF(key);
    if (found == NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();  /* not hashable */
    }
    return (Read *)found;
}

/* As table_look_up. A call with the very objects of the last one needs no look-up. */
static Read *
table_find(PriceTable *self, PyObject *const *args)
{
    Read *last = (Read *)self->found;
    if (last != NULL && PyTuple_GET_SIZE(last->key) == READ_COUNT &&
        memcmp(args, &PyTuple_GET_ITEM(last->key, 0), READ_COUNT * sizeof *args) == 0) {
        return (Read *)Py_NewRef(last);
    }
    Read *found = table_look_up(self, args[0], args[1], args[2], args[3]);
    if (found != NULL) {
        Py_XSETREF(self->found, Py_NewRef(found));
    }
    return found;
}

/* 1 if this read depends on the ring alone, as far as the rows lie within the bounds; 0 if
   perhaps not, -1 on an error. */
static int
table_decides(const PriceTable *self, ContextBounds *bounds)
{
    PyObject *context;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->must_be_empty); i++) {
        if (PySet_GET_SIZE(PyTuple_GET_ITEM(self->must_be_empty, i)) != 0) {
            return 0;
        }
    }
    if (dict_version(self->environment) != self->trusted) {
        return 0;
    }
    if (PyContextVar_Get(self->context, NULL, &context) < 0) {
        return -1;
    }
    int decides = 0;
    if (context == self->read_live || context == NULL || context == Py_None) {
        decides = PyDict_GET_SIZE(self->settings) == 0;  /* else another may be meant */
    }
    else if ((PyObject *)Py_TYPE(context) == self->setting_type) {
        decides = own_context_bounds(context, bounds);
    }
    Py_XDECREF(context);
    return decides;
}

/* Note that the current thread or task has read live bars. 0, or -1 on an error. */
static int
table_note_live(const PriceTable *self)
{
    PyObject *context, *token;
    if (PyContextVar_Get(self->context, NULL, &context) < 0) {
        return -1;
    }
    Py_XDECREF(context);
    if (context != NULL && context != Py_None) {
        return 0;  /* READ_LIVE, or a setting, which says so itself */
    }
    token = PyContextVar_Set(self->context, self->read_live);
    Py_XDECREF(token);
    return token == NULL ? -1 : 0;
}

/* Return the frame or array, after a note of the rows that the current task reads with it.
   `word` has the epoch of their numbers, `own` is as in last_read_note. */
static PyObject *
table_note_read(const PriceTable *self, Read *read, const Rows *rows, int64_t word,
                PyObject *own, PyObject *frame)
{
    if (frame != NULL && rows_len(rows) != 0 &&
        last_read_note(&read->last, read->stream, self->bars_of_task, rows, word, own) <
            0) {
        Py_CLEAR(frame);
    }
    return frame;
}

/* 1 with the age of the stream's last update at the moment `now` if it is live, else 0. It
   is called after the rows were taken: a feeder stores its start before its first row, so
   that rows of another identity are never returned. */
static int
read_is_live(const PriceTable *self, const Read *read, const Reader *reader, int64_t now,
             int64_t *age)
{
    return ring_load(&reader->segment[SHM_H_STARTED]) == read->started &&
           ring_is_live(reader->segment, reader->entry, now, read->quiet, age) &&
           reader_is_carried(reader) && *age < self->most_age;
}

/* The reactions in force for this call, as bits of HEED_. */
static inline int64_t
heeded(const Read *read, const Asked *asked)
{
    return (read->heeds & ~asked->given) | asked->heeds;
}

/* The label in force for this call. */
static inline row_label
label_of(const Read *read, const Asked *asked)
{
    row_label label = asked->has_label ? asked->label : (row_label)read->label;
    return label == LABEL_DATE && !read->has_dates ? LABEL_CLOSE : label;
}

/* The age from which on the stream is stale, ns. */
static inline int64_t
oldest_heeded(const Read *read, const Asked *asked)
{
    return asked->max_age < 0 ? read->max_age : asked->max_age;
}

/* True if the result of this call cannot depend on its reactions to rows of this age. */
static bool
read_is_whole(const Read *read, const Rows *rows, const Asked *asked, int64_t age)
{
    int64_t heeds = heeded(read, asked), count = rows_len(rows);
    if (age > oldest_heeded(read, asked)) {
        return false;
    }
    return heeds == 0 ||
           ((!(heeds & HEED_GAP) || missing_rows(rows, read->step) == 0) &&
            (!(heeds & HEED_SHORT) || count >= asked->rows) &&
            (!(heeds & HEED_UNCONFIRMED) || count == 0 ||
             !(ring_load(words_of(rows, SHM_C_FLAGS) + count - 1) & ROW_UNCONFIRMED)));
}

/* Replace a number of the attrs, if it is not 0. Return 0, or -1 with an error. */
static int
put_number(PyObject *attrs, PyObject *name, uint64_t value)
{
    PyObject *number = value == 0 ? NULL : PyLong_FromUnsignedLongLong(value);
    int failed = value != 0 && (number == NULL || PyDict_SetItem(attrs, name, number) < 0);
    Py_XDECREF(number);
    return failed ? -1 : 0;
}

/* Return new attrs of these rows, of `asked` ones. The reference to `record` is taken. */
static PyObject *
table_attrs(const PriceTable *self, const Read *read, const Rows *rows, int64_t asked,
            PyObject *record)
{
    PyObject *attrs = record == NULL ? NULL
                                     : self->attrs_type->tp_new(self->attrs_type,
                                                                names.no_arguments, NULL);
    if (attrs == NULL) {
        Py_XDECREF(record);
        return NULL;
    }
    *(PyObject **)((char *)attrs + self->record_at) = record;
    int64_t count = rows_len(rows);
    int failed = PyDict_Update(attrs, read->attrs) < 0 ||
                 put_number(attrs, names.gaps, missing_rows(rows, read->step)) < 0 ||
                 put_number(attrs, names.short_,
                            asked > count ? (uint64_t)(asked - count) : 0) < 0;
    return put_all(attrs, failed);
}

/* Return the array over one span of the rows' floats. */
static PyObject *
span_array(Rows *rows, const Span *span)
{
    int column = SHM_C_FLOATS + span->first;
    if (span->step == 1) {
        return rows_array(rows, float64_descr, column, span->count, 2);
    }
    PyObject *floats = rows_array(rows, float64_descr, SHM_C_FLOATS, SHM_FLOATS, 2);
    PyObject *array = floats == NULL ? NULL : PyObject_GetItem(floats, span->rows);
    Py_XDECREF(floats);
    return array;
}

/* Return the datetimes of a frame's index. */
static PyObject *
labelled_times(const FrameBuilder *builder, const Read *read, Rows *rows,
            const Asked *asked)
{
    return rows_labels(rows, builder->dtype, label_of(read, asked));
}

/* Set `behind` in the attrs, if a bound leaves out newer rows. */
static PyObject *
with_behind(PyObject *attrs, const Asked *asked)
{
    if (attrs == NULL || asked->behind == 0) {
        return attrs;
    }
    PyObject *seconds = PyFloat_FromDouble((double)asked->behind / 1e3);
    int failed = seconds == NULL || PyDict_SetItem(attrs, names.behind, seconds) < 0;
    Py_XDECREF(seconds);
    return put_all(attrs, failed);
}

/* Set in the attrs what private rows say of themselves: their flags are counted now. */
static PyObject *
with_own_facts(PyObject *attrs, const Rows *rows)
{
    static const int64_t flag[] = {ROW_UNCONFIRMED, ROW_POLLED, ROW_REVISED};
    PyObject *const name[] = {names.unconfirmed, names.polled, names.revised};
    if (attrs == NULL || rows->owner != NULL) {
        return attrs;
    }
    int failed =
        rows->forming && PyDict_SetItem(attrs, names.forming, Py_True) < 0;
    for (int i = 0; i < 3 && !failed; i++) {
        int64_t count = count_flag(rows, flag[i], rows->first, rows->last);
        PyObject *number = PyLong_FromLongLong(count);
        failed = number == NULL || PyDict_SetItem(attrs, name[i], number) < 0;
        Py_XDECREF(number);
    }
    return put_all(attrs, failed);
}

/* Return the frame over these rows, the ring's or private ones. */
static PyObject *
read_frame(const PriceTable *self, const Read *read, Rows *rows, const Asked *asked,
           PyObject *record)
{
    const FrameBuilder *builder = (const FrameBuilder *)read->builder;
    PyObject *arrays[MOST_SPANS];
    PyObject *attrs = table_attrs(self, read, rows, asked->rows, record);
    attrs = with_own_facts(with_behind(attrs, asked), rows);
    PyObject *times = attrs == NULL ? NULL : labelled_times(builder, read, rows, asked);
    PyObject *frame = NULL;
    if (times != NULL) {
        for (int i = 0, ready = 1; i < builder->spans; i++) {
            arrays[i] = ready ? span_array(rows, &builder->span[i]) : NULL;
            ready = arrays[i] != NULL;
        }
        frame = frame_make(builder, arrays, times, attrs, rows->owner != NULL);
    }
    Py_XDECREF(times);
    Py_XDECREF(attrs);
    return frame;
}

/* True once after a frame that the process holds was overwritten: Python warns of it. */
static bool
read_has_lost(Read *read)
{
    int64_t lost = lost_slices(read);
    bool more = lost != read->lost;
    read->lost = lost;
    return more;
}

/* Take the rows of a range. NULL without an error if Python must decide: of no rows, of a
   context's older ones, and of what it may have to warn. */
static Slice *
take_range(const PriceTable *self, const Read *read, Reader *reader, Asked *asked,
           const ContextBounds *bounds)
{
    Range range = asked->range;
    if (bounds->latest < range.end) {
        range.end = bounds->latest;
    }
    Slice *slice = (Slice *)reader_range(reader, &range, &asked->newest);
    if (slice == NULL || rows_len(&slice->rows) == 0) {
        Py_XDECREF(slice);
        return NULL;
    }
    const ring_word *closes = words_of(&slice->rows, CLOSE_TIMES);
    int64_t last = ring_load(closes + rows_len(&slice->rows) - 1);
    asked->behind = asked->newest > last && asked->newest > range.end
                        ? ring_minus(asked->newest, last)
                        : 0;
    int served = !(bounds->has_history && asked->rows == 0 &&
                   ring_load(closes) > range.start);
    /* A month is longer than what is warned of. */
    if (served && read->step != 0 && asked->behind > read->step &&
        asked->behind <= MOST_BEHIND) {
        served = PySet_Contains(self->behind_warned, read->stream);
    }
    if (served <= 0) {
        Py_CLEAR(slice);
    }
    return slice;
}

/* As table_serve, a frame over the ring's rows. */
static PyObject *
read_view(const PriceTable *self, Read *read, Reader *reader, Asked *asked,
          const ContextBounds *bounds)
{
    int64_t age;
    PyObject *frame = NULL;
    Slice *slice = asked->is_range ? take_range(self, read, reader, asked, bounds)
                                   : (Slice *)reader_view(reader, asked->count);
    int64_t now = boot_ns();
    if (slice != NULL && !read_has_lost(read) &&
        read_is_live(self, read, reader, now, &age) &&
        rows_within(&slice->rows, asked->rows, bounds) &&
        read_is_whole(read, &slice->rows, asked, age)) {
        PyObject *record =
            read_record(slice, &slice->rows, slice->word, read->facts, now, age);
        if (record != NULL && asked->is_range) {
            ((ReadRecord *)record)->newest = asked->newest;
        }
        frame = read_frame(self, read, &slice->rows, asked, record);
        if (frame != NULL && !slice_is_valid(slice)) {
            Py_CLEAR(frame);
        }
        frame = table_note_read(self, read, &slice->rows, slice->word, NULL, frame);
    }
    Py_XDECREF(slice);
    return frame;
}

/* Take private rows: of a range, or the newest ones. NULL without an error if Python must
   decide. */
static Rows *
take_private(const PriceTable *self, const Read *read, Reader *reader, Asked *asked,
             const ContextBounds *bounds)
{
    if (!asked->is_range) {
        PyObject *now = asked->include_now ? Py_True : Py_False;
        return (Rows *)reader_snapshot_of(reader, asked->count, now);
    }
    Slice *slice = take_range(self, read, reader, asked, bounds);
    Rows *rows = slice == NULL ? NULL : (Rows *)rows_copy(&slice->rows, NULL);
    if (rows != NULL && !slice_is_valid(slice)) {
        Py_CLEAR(rows);
    }
    Py_XDECREF(slice);
    return rows;
}

/* Return the record of a read of private rows; `own` is as in last_read_note. */
static PyObject *
private_record(const Read *read, const Rows *rows, const Reader *reader,
               const Asked *asked, int64_t now, int64_t age, PyObject *own)
{
    PyObject *made = read_record(NULL, rows, reader->word, read->facts, now, age);
    if (made != NULL) {
        ReadRecord *record = (ReadRecord *)made;
        int64_t newest = asked->is_range ? asked->newest : newest_close(rows);
        record->newest = newest == INT64_MIN ? 0 : newest;
        record->own = Py_XNewRef(own);
    }
    return made;
}

/* As read_frame, the long frame of a list of one. */
static PyObject *
read_long(const PriceTable *self, const Read *read, Rows *rows, const Asked *asked,
          PyObject *record)
{
    PyObject *attrs = table_attrs(self, read, rows, asked->rows, record);
    const LongBuilder *builder = (const LongBuilder *)read->builder;
    PyObject *frame =
        attrs == NULL ? NULL : long_make(builder, rows, label_of(read, asked), attrs);
    Py_XDECREF(attrs);
    return frame;
}

/* Return the frame or the array of these private rows. */
static PyObject *
private_result(const PriceTable *self, Read *read, Rows *rows, const Reader *reader,
               const Asked *asked, int64_t now, int64_t age)
{
    PyObject *own = rows->forming ? rows_copy(rows, NULL) : NULL, *made = NULL;
    if (rows->forming && own == NULL) {
        return NULL;
    }
    if (Py_IS_TYPE(read->builder, &ArrayBuilderType)) {
        made = array_of((const ArrayBuilder *)read->builder, rows, label_of(read, asked));
    }
    else {
        PyObject *record = private_record(read, rows, reader, asked, now, age, own);
        bool is_long = Py_IS_TYPE(read->builder, &LongBuilderType);
        made = (is_long ? read_long : read_frame)(self, read, rows, asked, record);
    }
    made = table_note_read(self, read, rows, reader->word, own, made);
    Py_XDECREF(own);
    return made;
}

/* As table_serve, of private rows. */
static PyObject *
read_private(const PriceTable *self, Read *read, Reader *reader, Asked *asked,
             const ContextBounds *bounds)
{
    int64_t age;
    bool is_long = Py_IS_TYPE(read->builder, &LongBuilderType);
    if (is_long && (asked->is_range || asked->include_now)) {
        return NULL;
    }
    Rows *rows = take_private(self, read, reader, asked, bounds);
    PyObject *made = NULL;
    int64_t now = boot_ns();
    if (rows != NULL && (rows_len(rows) > 0 || !is_long) && !read_has_lost(read) &&
        read_is_live(self, read, reader, now, &age) &&
        rows_within(rows, asked->rows, bounds) && read_is_whole(read, rows, asked, age)) {
        made = private_result(self, read, rows, reader, asked, now, age);
    }
    Py_XDECREF(rows);
    return made;
}

/* The function that serves this call. */
static PyObject *
table_read_by_kind(const PriceTable *self, Read *read, Reader *reader, Asked *asked,
                   const ContextBounds *bounds)
{
    bool is_view = Py_IS_TYPE(read->builder, &FrameBuilderType) && !asked->copy &&
                   !asked->include_now && !read->copies;
    return (is_view ? read_view : read_private)(self, read, reader, asked, bounds);
}

/* False if the call asks for the forming bar in a way that Python must look at. */
static bool
takes_forming(const Read *read, const Reader *reader, const Asked *asked)
{
    return !asked->include_now ||
           (!asked->is_range && heeded(read, asked) == 0 &&
            asked->rows <= reader->history);
}

/* Return the frame or the array; NULL without an error if Python must decide. */
static PyObject *
table_serve(const PriceTable *self, Read *read, Asked *asked)
{
    PyObject *reader = ((ReattachingReader *)read->ring)->reader;
    ContextBounds bounds = NO_BOUNDS;
    if (reader == NULL || !takes_forming(read, (const Reader *)reader, asked) ||
        table_decides(self, &bounds) <= 0 ||
        !ring_is_current(((Reader *)reader)->segment, boot_ns_about())) {
        return NULL;
    }
    Py_INCREF(reader);  /* another thread may detach it */
    PyObject *frame =
        table_read_by_kind(self, read, (Reader *)reader, asked, &bounds);
    Py_DECREF(reader);
    if (frame != NULL && table_note_live(self) < 0) {
        Py_CLEAR(frame);
    }
    return frame;
}

/* 1 for "warn" and "raise", 0 for "ignore", -1 for anything else. */
static int
heeds(PyObject *reaction)
{
    if (!PyUnicode_CheckExact(reaction)) {
        return -1;
    }
    if (PyUnicode_CompareWithASCIIString(reaction, "ignore") == 0) {
        return 0;
    }
    return PyUnicode_CompareWithASCIIString(reaction, "warn") == 0 ||
                   PyUnicode_CompareWithASCIIString(reaction, "raise") == 0
               ? 1
               : -1;
}

/* Take the reactions of a call. False if Python must look at them. */
static bool
take_reactions(PyObject *const *args, Asked *asked)
{
    PyObject *age = args[READ_MAX_AGE], *on_stale = args[READ_ON_STALE];
    if (age != Py_None) {
        double seconds = PyFloat_CheckExact(age)  ? PyFloat_AS_DOUBLE(age)
                         : PyLong_CheckExact(age) ? PyLong_AsDouble(age)
                                                  : -1.0;
        if (!(seconds >= 0.0 && seconds < 1e9)) {
            PyErr_Clear();  /* an int beyond a double */
            return false;
        }
        asked->max_age = (int64_t)(seconds * 1e9);
    }
    if (on_stale != Py_None && heeds(on_stale) < 0) {
        return false;
    }
    for (int i = 0; i < READ_ARGUMENTS - READ_ON_GAP; i++) {
        PyObject *reaction = args[READ_ON_GAP + i];
        if (reaction != Py_None) {
            int heeded = heeds(reaction);
            if (heeded < 0) {
                return false;
            }
            asked->given |= 1 << i;
            asked->heeds |= heeded << i;
        }
    }
    return true;
}

/* Take the label of a call. False if Python must look at it. */
static bool
take_label(PyObject *label, Asked *asked)
{
    static const char *const labels[] = {"close", "open", "date"};
    asked->has_label = label != Py_None;
    if (!asked->has_label) {
        return true;
    }
    for (int i = LABEL_CLOSE; i <= LABEL_DATE && PyUnicode_CheckExact(label); i++) {
        if (PyUnicode_CompareWithASCIIString(label, labels[i]) == 0) {
            asked->label = i;
            return true;
        }
    }
    return false;
}

/* Take count, label and reactions of a call. False if it is not a usual one. */
static bool
take_asked(PyObject *const *args, Asked *asked)
{
    int overflow;
    PyObject *count = args[READ_COUNT];
    asked->count = count == Py_None ? names.twenty : count;
    if (!PyLong_CheckExact(asked->count)) {
        return false;
    }
    asked->rows = PyLong_AsLongLongAndOverflow(asked->count, &overflow);
    asked->max_age = -1;
    asked->given = asked->heeds = asked->behind = 0;
    asked->is_range = false;
    for (int i = READ_INCLUDE_NOW; i < READ_LABEL; i++) {
        if (args[i] != Py_False && (i >= READ_SHAPE || args[i] != Py_True)) {
            return false;
        }
    }
    asked->include_now = args[READ_INCLUDE_NOW] == Py_True;
    asked->copy = args[READ_COPY] == Py_True;
    return asked->rows > 0 && take_label(args[READ_LABEL], asked) &&
           take_reactions(args, asked);
}

/* Take the dates of a call, None for no bound. 1, 0 if Python must look at them, -1 on an
   error. */
static int
take_dates(const PriceTable *self, const Read *read, PyObject *const *args,
           PyObject *const *dates, Asked *asked)
{
    Moment first, last;
    int taken = 1;
    asked->is_range = true;
    asked->range = (Range){INT64_MIN, INT64_MAX, asked->rows};
    if (dates[0] != Py_None) {
        if (args[READ_COUNT] != Py_None) {
            return 0;
        }
        taken = take_moment(self->texts, self->to_moment, dates[0], &first);
        asked->rows = 0;
        asked->range.most = INT64_MAX;
        asked->range.start = taken > 0 ? first.ms + (first.is_date && read->has_dates) : 0;
    }
    if (taken > 0 && dates[1] != Py_None) {
        taken = take_moment(self->texts, self->to_moment, dates[1], &last);
        bool whole = taken > 0 && last.is_date && read->has_dates;
        asked->range.end = taken > 0 ? last.ms + (whole ? MS_OF_DAY : 0) : 0;
        if (taken > 0 && dates[0] != Py_None && first.ms > last.ms) {
            return 0;  /* perhaps an error */
        }
    }
    return taken;
}

/* Serve a call; `dates` is NULL for the newest rows. NULL without an error if Python must
   decide. */
static PyObject *
table_answer(PriceTable *self, PyObject *given, PyObject *const *dates)
{
    if (!PyTuple_CheckExact(given) || PyTuple_GET_SIZE(given) != READ_ARGUMENTS) {
        PyErr_Format(PyExc_TypeError, "read() takes a tuple of %d", READ_ARGUMENTS);
        return NULL;
    }
    PyObject *const *args = &PyTuple_GET_ITEM(given, 0);
    PyObject *frame = NULL;
    Asked asked;
    if (PyDict_GET_SIZE(self->reads) != 0 && take_asked(args, &asked)) {
        Read *read = table_find(self, args);
        if (read != NULL) {
            if (dates == NULL || take_dates(self, read, args, dates, &asked) > 0) {
                frame = table_serve(self, read, &asked);
            }
            Py_DECREF(read);
        }
    }
    return frame;
}

static PyObject *
table_read(PriceTable *self, PyObject *given)
{
    PyObject *frame = table_answer(self, given, NULL);
    return frame != NULL || PyErr_Occurred() ? frame : Py_NewRef(Py_None);
}

static PyObject *
table_read_range(PriceTable *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "read_range() takes given, start and end");
        return NULL;
    }
    PyObject *frame = table_answer(self, args[0], args + 1);
    return frame != NULL || PyErr_Occurred() ? frame : Py_NewRef(Py_None);
}

static PyObject *
table_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *environment, *context, *read_live, *setting_type, *settings, *must_be_empty;
    PyObject *attrs, *slot, *bars, *texts, *to_moment, *behind_warned;
    double seconds;
    if (!PyArg_ParseTuple(args, "O!(O!OO!O!)O!O!OdO(O!OO!)", &PyDict_Type, &environment,
                          &PyContextVar_Type, &context, &read_live, &PyType_Type,
                          &setting_type, &PyDict_Type, &settings, &PyTuple_Type,
                          &must_be_empty, &PyType_Type, &attrs, &slot, &seconds, &bars,
                          &PyDict_Type, &texts, &to_moment, &PySet_Type,
                          &behind_warned)) {
        return NULL;
    }
    if (!Py_IS_TYPE(slot, &PyMemberDescr_Type) ||
        ((PyMemberDescrObject *)slot)->d_common.d_type != (PyTypeObject *)attrs) {
        PyErr_SetString(PyExc_TypeError, "_record is not a slot of the attrs");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(must_be_empty); i++) {
        if (!PyAnySet_Check(PyTuple_GET_ITEM(must_be_empty, i))) {
            PyErr_SetString(PyExc_TypeError, "must_be_empty has sets only");
            return NULL;
        }
    }
    PriceTable *self = (PriceTable *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->environment = Py_NewRef(environment);
    self->context = Py_NewRef(context);
    self->read_live = Py_NewRef(read_live);
    self->setting_type = Py_NewRef(setting_type);
    self->settings = Py_NewRef(settings);
    self->must_be_empty = Py_NewRef(must_be_empty);
    self->attrs_type = (PyTypeObject *)Py_NewRef(attrs);
    self->record_at = ((PyMemberDescrObject *)slot)->d_member->offset;
    self->most_age = (int64_t)(seconds * 1e9);
    self->bars_of_task = Py_NewRef(bars);
    self->texts = Py_NewRef(texts);
    self->to_moment = Py_NewRef(to_moment);
    self->behind_warned = Py_NewRef(behind_warned);
    self->reads = PyDict_New();
    return put_all((PyObject *)self, self->reads == NULL || dict_watch(environment) < 0);
}

static void
table_dealloc(PriceTable *self)
{
    Py_XDECREF(self->environment);
    Py_XDECREF(self->context);
    Py_XDECREF(self->read_live);
    Py_XDECREF(self->setting_type);
    Py_XDECREF(self->settings);
    Py_XDECREF(self->must_be_empty);
    Py_XDECREF(self->attrs_type);
    Py_XDECREF(self->bars_of_task);
    Py_XDECREF(self->texts);
    Py_XDECREF(self->to_moment);
    Py_XDECREF(self->behind_warned);
    Py_XDECREF(self->reads);
    Py_XDECREF(self->found);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef table_methods[] = {
    {"read", (PyCFunction)table_read, METH_O, DOC_PriceTable_read},
    {"read_range", FUNCTION(table_read_range), METH_FASTCALL,
     DOC_PriceTable_read_range},
    {"add", (PyCFunction)table_add, METH_VARARGS, DOC_PriceTable_add},
    {"version", (PyCFunction)table_version, METH_NOARGS, DOC_PriceTable_version},
    {"trust", (PyCFunction)table_trust, METH_O, DOC_PriceTable_trust},
    {"clear", (PyCFunction)table_clear, METH_NOARGS, DOC_PriceTable_clear},
    {"keep_reads", (PyCFunction)table_keep_reads, METH_NOARGS, DOC_PriceTable_keep_reads},
    {"take_windows", (PyCFunction)table_take_windows, METH_O,
     DOC_PriceTable_take_windows},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject PriceTableType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmfeed._ringbuf.PriceTable",
    .tp_basicsize = sizeof(PriceTable),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = DOC_PriceTable,
    .tp_new = table_new,
    .tp_dealloc = (destructor)table_dealloc,
    .tp_methods = table_methods,
};

#endif
