/* FrameBuilder and PriceTable: the usual get_price, compiled.

   The definitions are DirectFrameBuilder of wealthdata/frame.py and CachedQuery of
   wealthdata/query.py. This module never imports pandas: the definition hands its classes
   over. A call that is not the usual one is answered with None, and Python decides. */
#ifndef SHM_FRAME_H
#define SHM_FRAME_H

#include "follower.h"

#define MOST_SPANS SHM_FLOATS

typedef struct {
    PyObject *placement;
    PyObject *rows;  /* a slice of the floats */
    int first, count, step;
} Span;

/* What the builder takes from its definition, by the names of its attributes. */
#define BUILDER_PARTS(X)                                                              \
    X(block) X(manager) X(references) X(array) X(flags) X(anchor) X(columns) X(dtype) \
    X(frame_type) X(index_type) X(time_index_type)

typedef struct {
    PyObject_HEAD
#define FIELD(name) PyObject *name;
    BUILDER_PARTS(FIELD)
#undef FIELD
    PyObject *column_state[5];  /* as column_names has them */
    int caches_columns;
    int has_frequency;
    int spans;
    Span span[MOST_SPANS];
} FrameBuilder;

static PyTypeObject FrameBuilderType;

/* Names of pandas' attributes, and of its methods. */
#define FRAME_NAMES(X)                                                                \
    X(_data) X(_name) X(_cache) X(_id) X(_references) X(_freq) X(_mgr) X(_attrs)      \
    X(_flags) X(_is_copy) X(_item_cache) X(_allows_duplicate_labels) X(_obj) X(refs)  \
    X(referenced_blocks) X(add_index_reference) X(shmfeed) X(age) X(gaps) X(warn)

static struct {
#define FIELD(name) PyObject *name;
    FRAME_NAMES(FIELD)
#undef FIELD
    PyObject *two;
    PyObject *twenty;  /* the default count */
    PyObject *no_arguments;
} names;

static PyObject **const column_names[5] = {&names._data, &names._name, &names._cache,
                                           &names._id, &names._references};

static int
intern_frame_names(void)
{
#define INTERN(name)                                                                  \
    if ((names.name = PyUnicode_InternFromString(#name)) == NULL) {                   \
        return -1;                                                                    \
    }
    FRAME_NAMES(INTERN)
#undef INTERN
    names.two = PyLong_FromLong(2);
    names.twenty = PyLong_FromLong(20);
    names.no_arguments = PyTuple_New(0);
    return names.two == NULL || names.twenty == NULL || names.no_arguments == NULL ? -1 : 0;
}

/* object.__new__ */
static inline PyObject *
bare_object(PyObject *type)
{
    return PyBaseObject_Type.tp_new((PyTypeObject *)type, names.no_arguments, NULL);
}

/* object.__setattr__ with a reference that is taken; -1 if `value` is NULL. */
static inline int
put(PyObject *object, PyObject *name, PyObject *value)
{
    if (value == NULL) {
        return -1;
    }
    int failed = PyObject_GenericSetAttr(object, name, value);
    Py_DECREF(value);
    return failed;
}

static inline PyObject *
put_all(PyObject *object, int failed)
{
    if (object != NULL && failed) {
        Py_CLEAR(object);
    }
    return object;
}

static int
hold_block(const FrameBuilder *self, PyObject *block)
{
    PyObject *refs = PyObject_GetAttr(block, names.refs);
    PyObject *list = refs == NULL ? NULL : PyObject_GetAttr(refs, names.referenced_blocks);
    Py_XDECREF(refs);
    int failed = list == NULL || PyList_Append(list, self->anchor) < 0;
    Py_XDECREF(list);
    return failed ? -1 : 0;
}

/* Return the blocks over these arrays, one for each span, whose references are taken. */
static PyObject *
frame_blocks(const FrameBuilder *self, PyObject **arrays, int shared)
{
    PyObject *blocks = PyTuple_New(self->spans);
    for (int i = 0; i < self->spans; i++) {
        PyObject *block = NULL;
        if (blocks != NULL && arrays[i] != NULL) {
            PyObject *given[] = {NULL, arrays[i], self->span[i].placement, names.two};
            block = PyObject_Vectorcall(self->block, given + 1,
                                        3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
            if (block != NULL && shared && hold_block(self, block) < 0) {
                Py_CLEAR(block);
            }
        }
        Py_XDECREF(arrays[i]);
        if (block == NULL) {
            Py_CLEAR(blocks);
        }
        else {
            PyTuple_SET_ITEM(blocks, i, block);
        }
    }
    return blocks;
}

static PyObject *
frame_columns(const FrameBuilder *self)
{
    PyObject *view = bare_object(self->index_type);
    int failed = 0;
    for (int i = 0; view != NULL && i < 5 && !failed; i++) {
        failed = put(view, *column_names[i], Py_NewRef(self->column_state[i]));
    }
    return put_all(view, failed);
}

static PyObject *
frame_times(const FrameBuilder *self, PyObject *times)
{
    PyObject *given[] = {NULL, times, self->dtype};
    PyObject *array = PyObject_Vectorcall(self->array, given + 1,
                                          2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (array == NULL ||
        (self->has_frequency && PyObject_SetAttr(array, names._freq, Py_None) < 0)) {
        Py_XDECREF(array);
        return NULL;
    }
    PyObject *references = PyObject_CallNoArgs(self->references);
    PyObject *index = references == NULL ? NULL : bare_object(self->time_index_type);
    int failed = index == NULL || put(index, names._data, Py_NewRef(array)) < 0 ||
                 put(index, names._name, Py_NewRef(Py_None)) < 0 ||
                 put(index, names._cache, PyDict_New()) < 0 ||
                 put(index, names._id, bare_object((PyObject *)&PyBaseObject_Type)) < 0 ||
                 put(index, names._references, Py_NewRef(references)) < 0;
    if (!failed) {
        PyObject *added = PyObject_CallMethodOneArg(references, names.add_index_reference,
                                                    index);
        failed = added == NULL;
        Py_XDECREF(added);
    }
    Py_DECREF(array);
    Py_XDECREF(references);
    return put_all(index, failed);
}

static PyObject *
frame_flags(const FrameBuilder *self, PyObject *frame)
{
    PyObject *flags = bare_object(self->flags);
    int failed = flags != NULL &&
                 (put(flags, names._allows_duplicate_labels, Py_NewRef(Py_True)) < 0 ||
                  put(flags, names._obj, PyWeakref_NewRef(frame, NULL)) < 0);
    return put_all(flags, failed);
}

static PyObject *
frame_attrs(PyObject *attrs)
{
    PyObject *dict = PyDict_New();
    return put_all(dict, dict != NULL && PyDict_SetItem(dict, names.shmfeed, attrs) < 0);
}

static PyObject *
frame_manager(const FrameBuilder *self, PyObject *blocks, PyObject *times)
{
    PyObject *columns = frame_columns(self);
    PyObject *index = columns == NULL ? NULL : frame_times(self, times);
    PyObject *axes = index == NULL ? NULL : PyList_New(2);
    if (axes == NULL) {
        Py_XDECREF(columns);
        Py_XDECREF(index);
        return NULL;
    }
    PyList_SET_ITEM(axes, 0, columns);
    PyList_SET_ITEM(axes, 1, index);
    PyObject *given[] = {NULL, blocks, axes, Py_False};
    PyObject *manager = PyObject_Vectorcall(self->manager, given + 1,
                                            3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(axes);
    return manager;
}

/* Return a frame over these arrays, one for each span, whose references are taken. */
static PyObject *
frame_make(const FrameBuilder *self, PyObject **arrays, PyObject *times, PyObject *attrs,
           int shared)
{
    PyObject *blocks = frame_blocks(self, arrays, shared);
    PyObject *manager = blocks == NULL ? NULL : frame_manager(self, blocks, times);
    Py_XDECREF(blocks);
    PyObject *frame = manager == NULL ? NULL : bare_object(self->frame_type);
    if (frame == NULL) {
        Py_XDECREF(manager);
        return NULL;
    }
    int failed = put(frame, names._mgr, manager) < 0 ||
                 put(frame, names._attrs, frame_attrs(attrs)) < 0 ||
                 put(frame, names._flags, frame_flags(self, frame)) < 0;
    if (!failed && self->caches_columns) {
        failed = put(frame, names._is_copy, Py_NewRef(Py_None)) < 0 ||
                 put(frame, names._item_cache, PyDict_New()) < 0;
    }
    return put_all(frame, failed);
}

static PyObject *
builder_build(FrameBuilder *self, PyObject *const *args, Py_ssize_t count,
              PyObject *keywords)
{
    static Parameters parameters = {
        "build", 4, 4, {"floats", "times", "attrs", "shared"}, {0}};
    PyObject *given[4], *arrays[MOST_SPANS];
    if (parameters.interned[0] == NULL && intern_parameters(&parameters) < 0) {
        return NULL;
    }
    if (parse(&parameters, args, count, keywords, given) < 0) {
        return NULL;
    }
    int shared = PyObject_IsTrue(given[3]);
    if (shared < 0) {
        return NULL;
    }
    for (int i = 0, ready = 1; i < self->spans; i++) {
        arrays[i] = ready ? PyObject_GetItem(given[0], self->span[i].rows) : NULL;
        ready = arrays[i] != NULL;
    }
    return frame_make(self, arrays, given[1], given[2], shared);
}

static int
builder_spans(FrameBuilder *self, PyObject *definition)
{
    PyObject *spans = PyObject_GetAttrString(definition, "_spans");
    PyObject *listed = spans == NULL ? NULL : PySequence_Fast(spans, "_spans is no list");
    Py_XDECREF(spans);
    if (listed == NULL) {
        return -1;
    }
    int failed = 0;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(listed) && !failed; i++) {
        PyObject *pair = PySequence_Fast_GET_ITEM(listed, i), *placement, *rows;
        Py_ssize_t start, stop, step;
        failed = i == MOST_SPANS || !PyArg_ParseTuple(pair, "OO!", &placement,
                                                      &PySlice_Type, &rows) ||
                 PySlice_Unpack(rows, &start, &stop, &step) < 0;
        if (!failed) {
            int many = (int)PySlice_AdjustIndices(SHM_FLOATS, &start, &stop, step);
            self->span[self->spans++] = (Span){Py_NewRef(placement), Py_NewRef(rows),
                                               (int)start, many, (int)step};
        }
    }
    Py_DECREF(listed);
    if (failed && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_ValueError, "more spans than float columns");
    }
    return failed ? -1 : 0;
}

static int
take_flag(PyObject *object, const char *name, int *value)
{
    PyObject *found = PyObject_GetAttrString(object, name);
    *value = found == NULL ? -1 : PyObject_IsTrue(found);
    Py_XDECREF(found);
    return *value < 0 ? -1 : 0;
}

static PyObject *
builder_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *definition;
    if (!PyArg_ParseTuple(args, "O", &definition)) {
        return NULL;
    }
    FrameBuilder *self = (FrameBuilder *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    int failed = take_flag(definition, "_caches_columns", &self->caches_columns) < 0 ||
                 take_flag(definition, "_has_frequency", &self->has_frequency) < 0 ||
                 builder_spans(self, definition) < 0;
#define TAKE(name)                                                                    \
    failed = failed ||                                                                \
             (self->name = PyObject_GetAttrString(definition, "_" #name)) == NULL;
    BUILDER_PARTS(TAKE)
#undef TAKE
    PyObject *made[] = {self->flags, self->frame_type, self->index_type, self->time_index_type};
    for (int i = 0; i < 4 && !failed; i++) {
        if (!PyType_Check(made[i])) {
            PyErr_SetString(PyExc_TypeError, "a class of pandas is no class");
            failed = 1;
        }
    }
    for (int i = 0; i < 5 && !failed; i++) {
        self->column_state[i] = PyObject_GetAttr(self->columns, *column_names[i]);
        failed = self->column_state[i] == NULL;
    }
    return put_all((PyObject *)self, failed);
}

static void
builder_dealloc(FrameBuilder *self)
{
#define DROP(name) Py_XDECREF(self->name);
    BUILDER_PARTS(DROP)
#undef DROP
    for (int i = 0; i < 5; i++) {
        Py_XDECREF(self->column_state[i]);
    }
    for (int i = 0; i < self->spans; i++) {
        Py_DECREF(self->span[i].placement);
        Py_DECREF(self->span[i].rows);
    }
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef builder_methods[] = {
    {"build", FUNCTION(builder_build), NAMED, DOC_FrameBuilder_build},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject FrameBuilderType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmfeed._ringbuf.FrameBuilder",
    .tp_basicsize = sizeof(FrameBuilder),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = DOC_FrameBuilder,
    .tp_new = builder_new,
    .tp_dealloc = (destructor)builder_dealloc,
    .tp_methods = builder_methods,
};


/* What a table takes from Python: wealthdata/price_table.py explains it. */
typedef struct {
    PyObject_HEAD
    PyObject *environment, *feed_variable, *copy_variable, *context, *deciders;
    PyObject *attrs_type, *attrs_valid;  /* FrameAttrs, and its slot `_valid` */
    int64_t most_age;  /* ns; an older update may be that of an outage */
    PyObject *reads;   /* a dict: (security, frequency, fields) to Read */
} PriceTable;

typedef struct {
    PyObject_HEAD
    PyObject *ring, *builder, *attrs, *feed_value;
    int64_t step;   /* ms */
    int64_t quiet;  /* ns without an update until the stream is no longer live */
    int64_t lost;   /* frames of the ring that Python has been told of */
} Read;

static PyTypeObject ReadType;
static PyTypeObject PriceTableType;

static void
read_dealloc(Read *self)
{
    Py_XDECREF(self->ring);
    Py_XDECREF(self->builder);
    Py_XDECREF(self->attrs);
    Py_XDECREF(self->feed_value);
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
    const ReattachingReader *ring = (const ReattachingReader *)read->ring;
    const Reader *reader = (const Reader *)ring->reader;
    return ring->lost + (reader == NULL ? 0 : reader->tally->lost);
}

static PyObject *
table_add(PriceTable *self, PyObject *args)
{
    PyObject *key, *ring, *builder, *attrs;
    long long step, quiet;
    if (!PyArg_ParseTuple(args, "O!(O!O!O!LL)", &PyTuple_Type, &key,
                          &ReattachingReaderType, &ring, &FrameBuilderType, &builder,
                          &PyDict_Type, &attrs, &step, &quiet)) {
        return NULL;
    }
    Read *read = PyObject_New(Read, &ReadType);
    if (read == NULL) {
        return NULL;
    }
    read->ring = Py_NewRef(ring);
    read->builder = Py_NewRef(builder);
    read->attrs = Py_NewRef(attrs);
    read->feed_value =
        Py_XNewRef(PyDict_GetItemWithError(self->environment, self->feed_variable));
    read->step = step;
    read->quiet = quiet;
    read->lost = lost_slices(read);
    int failed = PyErr_Occurred() || PyDict_SetItem(self->reads, key, (PyObject *)read) < 0;
    Py_DECREF(read);
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyObject *
table_clear(PriceTable *self, PyObject *Py_UNUSED(none))
{
    PyDict_Clear(self->reads);
    Py_RETURN_NONE;
}

/* Return the read of these arguments, a new reference; NULL if the table lacks it, or with
   an error. */
static Read *
table_find(PriceTable *self, PyObject *security, PyObject *frequency, PyObject *fields)
{
    if (!PyUnicode_CheckExact(security) || !PyUnicode_CheckExact(frequency) ||
        !(fields == Py_None || PyUnicode_CheckExact(fields) ||
          PyTuple_CheckExact(fields))) {
        return NULL;
    }
    PyObject *key = PyTuple_Pack(3, security, frequency, fields);
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

/* 1 if nothing outside the ring has a say in this read, 0 if something may, -1 on an
   error. */
static int
table_decides(const PriceTable *self, const Read *read)
{
    PyObject *context, *environment = self->environment;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->deciders); i++) {
        Py_ssize_t size = PyObject_Size(PyTuple_GET_ITEM(self->deciders, i));
        if (size != 0) {
            return size < 0 ? -1 : 0;
        }
    }
    if (PyContextVar_Get(self->context, NULL, &context) < 0) {
        return -1;
    }
    Py_XDECREF(context);
    if (!(context == NULL || context == Py_None) ||
        PyDict_GetItemWithError(environment, self->copy_variable) != NULL) {
        return 0;
    }
    PyObject *value = PyDict_GetItemWithError(environment, self->feed_variable);
    if (PyErr_Occurred()) {
        return -1;
    }
    return value == read->feed_value ||
           (value != NULL && read->feed_value != NULL &&
            PyObject_RichCompareBool(value, read->feed_value, Py_EQ));
}

/* 1 with the age of the stream's last update if it is live, else 0. */
static int
read_is_live(const PriceTable *self, const Read *read, const Reader *reader, int64_t *age)
{
    return ring_is_live(reader->segment, reader->entry, boot_ns(), read->quiet, age) &&
           reader_is_carried(reader) &&
           *age < self->most_age;
}

static PyObject *
table_attrs(const PriceTable *self, const Read *read, Slice *slice, int64_t age)
{
    PyTypeObject *type = (PyTypeObject *)self->attrs_type;
    PyObject *attrs = type->tp_new(type, names.no_arguments, NULL);
    if (attrs == NULL) {
        return NULL;
    }
    PyObject *seconds = PyFloat_FromDouble((double)age / 1e9);
    PyObject *validity = seconds == NULL ? NULL : slice_validity(slice, NULL);
    uint64_t gaps = missing_rows(&slice->rows, read->step);
    int failed = validity == NULL || PyDict_Update(attrs, read->attrs) < 0 ||
                 PyDict_SetItem(attrs, names.age, seconds) < 0 ||
                 Py_TYPE(self->attrs_valid)
                         ->tp_descr_set(self->attrs_valid, attrs, validity) < 0;
    Py_XDECREF(validity);
    Py_XDECREF(seconds);
    if (!failed && gaps != 0) {
        PyObject *number = PyLong_FromUnsignedLongLong(gaps);
        failed = number == NULL || PyDict_SetItem(attrs, names.gaps, number) < 0;
        Py_XDECREF(number);
    }
    return put_all(attrs, failed);
}

/* Return the array over one span of a slice's floats. */
static PyObject *
span_array(Slice *slice, const Span *span)
{
    int column = SHM_C_FLOATS + span->first;
    if (span->step == 1) {
        return rows_array(&slice->rows, float64_descr, column, span->count, 2);
    }
    PyObject *floats =
        rows_array(&slice->rows, float64_descr, SHM_C_FLOATS, SHM_FLOATS, 2);
    PyObject *array = floats == NULL ? NULL : PyObject_GetItem(floats, span->rows);
    Py_XDECREF(floats);
    return array;
}

static PyObject *
read_frame(const PriceTable *self, const Read *read, Slice *slice, int64_t age)
{
    const FrameBuilder *builder = (const FrameBuilder *)read->builder;
    PyObject *arrays[MOST_SPANS];
    PyObject *attrs = table_attrs(self, read, slice, age);
    PyObject *times = attrs == NULL ? NULL : rows_datetimes(&slice->rows, builder->dtype);
    PyObject *frame = NULL;
    if (times != NULL) {
        for (int i = 0, ready = 1; i < builder->spans; i++) {
            arrays[i] = ready ? span_array(slice, &builder->span[i]) : NULL;
            ready = arrays[i] != NULL;
        }
        frame = frame_make(builder, arrays, times, attrs, 1);
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

/* Return the frame; NULL without an error if Python must decide. */
static PyObject *
table_serve(const PriceTable *self, Read *read, PyObject *count)
{
    int64_t age;
    PyObject *reader = ((ReattachingReader *)read->ring)->reader, *frame = NULL;
    int decides = table_decides(self, read);
    if (decides <= 0 || reader == NULL ||
        !ring_is_current(((Reader *)reader)->segment, boot_ns_about())) {
        return NULL;
    }
    Py_INCREF(reader);  /* another thread may detach it */
    Slice *slice = (Slice *)reader_view((Reader *)reader, count);
    if (slice != NULL && !read_has_lost(read) &&
        read_is_live(self, read, (Reader *)reader, &age)) {
        frame = read_frame(self, read, slice, age);
        if (frame != NULL && !slice_is_valid(slice)) {
            Py_CLEAR(frame);
        }
    }
    Py_XDECREF(slice);
    Py_DECREF(reader);
    return frame;
}

static PyObject *
table_read(PriceTable *self, PyObject *const *args, Py_ssize_t given)
{
    if (given != 8) {
        PyErr_SetString(PyExc_TypeError, "read() takes 8 arguments");
        return NULL;
    }
    PyObject *count = args[3], *on_stale = args[7], *frame = NULL;
    int overflow;
    bool usual = args[4] == Py_False && args[5] == Py_False && args[6] == Py_None &&
                 (on_stale == names.warn ||
                  (PyUnicode_CheckExact(on_stale) &&
                   PyUnicode_Compare(on_stale, names.warn) == 0)) &&
                 (count == Py_None ||
                  (PyLong_CheckExact(count) &&
                   PyLong_AsLongLongAndOverflow(count, &overflow) > 0));
    if (usual && PyDict_GET_SIZE(self->reads) != 0) {
        Read *read = table_find(self, args[0], args[1], args[2]);
        if (read != NULL) {
            frame = table_serve(self, read, count == Py_None ? names.twenty : count);
            Py_DECREF(read);
        }
    }
    if (frame != NULL || PyErr_Occurred()) {
        return frame;
    }
    Py_RETURN_NONE;
}

static PyObject *
table_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *environment, *feed, *copy, *context, *deciders, *attrs, *valid;
    double seconds;
    if (!PyArg_ParseTuple(args, "O!OOO!O!O!Od", &PyDict_Type, &environment, &feed, &copy,
                          &PyContextVar_Type, &context, &PyTuple_Type, &deciders,
                          &PyType_Type, &attrs, &valid, &seconds)) {
        return NULL;
    }
    if (Py_TYPE(valid)->tp_descr_set == NULL) {
        PyErr_SetString(PyExc_TypeError, "_valid is no slot");
        return NULL;
    }
    PriceTable *self = (PriceTable *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->environment = Py_NewRef(environment);
    self->feed_variable = Py_NewRef(feed);
    self->copy_variable = Py_NewRef(copy);
    self->context = Py_NewRef(context);
    self->deciders = Py_NewRef(deciders);
    self->attrs_type = Py_NewRef(attrs);
    self->attrs_valid = Py_NewRef(valid);
    self->most_age = (int64_t)(seconds * 1e9);
    self->reads = PyDict_New();
    return put_all((PyObject *)self, self->reads == NULL);
}

static void
table_dealloc(PriceTable *self)
{
    Py_XDECREF(self->environment);
    Py_XDECREF(self->feed_variable);
    Py_XDECREF(self->copy_variable);
    Py_XDECREF(self->context);
    Py_XDECREF(self->deciders);
    Py_XDECREF(self->attrs_type);
    Py_XDECREF(self->attrs_valid);
    Py_XDECREF(self->reads);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef table_methods[] = {
    {"read", FUNCTION(table_read), METH_FASTCALL, DOC_PriceTable_read},
    {"add", (PyCFunction)table_add, METH_VARARGS, DOC_PriceTable_add},
    {"clear", (PyCFunction)table_clear, METH_NOARGS, DOC_PriceTable_clear},
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
