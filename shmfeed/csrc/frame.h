/* FrameBuilder: a DataFrame from arrays, as DirectFrameBuilder of wealthdata/frame.py makes
   it. This module never imports pandas: the definition hands its classes over. */
#ifndef SHM_FRAME_H
#define SHM_FRAME_H

#include "reader.h"

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

/* Names of pandas' attributes and methods, and of those of contexts. */
#define FRAME_NAMES(X)                                                                \
    X(_data) X(_name) X(_cache) X(_id) X(_references) X(_freq) X(_mgr) X(_attrs)      \
    X(_flags) X(_is_copy) X(_item_cache) X(_allows_duplicate_labels) X(_obj) X(refs)  \
    X(referenced_blocks) X(add_index_reference) X(shmfeed) X(gaps) X(behind) X(forming)   \
    X(unconfirmed) X(polled) X(revised) X(warn) X(known)   \
    X(run_params) X(type) X(current_dt)

static struct {
#define FIELD(name) PyObject *name;
    FRAME_NAMES(FIELD)
#undef FIELD
    PyObject *short_;  /* "short" */
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
    names.short_ = PyUnicode_InternFromString("short");
    names.two = PyLong_FromLong(2);
    names.twenty = PyLong_FromLong(20);
    names.no_arguments = PyTuple_New(0);
    return names.short_ == NULL || names.two == NULL || names.twenty == NULL ||
                   names.no_arguments == NULL
               ? -1
               : 0;
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

/* Return a manager of the blocks. Take the references of the axes; NULL is an error that
   is set already. */
static PyObject *
make_manager(PyObject *type, PyObject *blocks, PyObject *columns, PyObject *index)
{
    PyObject *axes = columns == NULL || index == NULL ? NULL : PyList_New(2);
    if (axes == NULL) {
        Py_XDECREF(columns);
        Py_XDECREF(index);
        return NULL;
    }
    PyList_SET_ITEM(axes, 0, columns);
    PyList_SET_ITEM(axes, 1, index);
    PyObject *given[] = {NULL, blocks, axes, Py_False};
    PyObject *manager = PyObject_Vectorcall(type, given + 1,
                                            3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(axes);
    return manager;
}

static PyObject *
frame_manager(const FrameBuilder *self, PyObject *blocks, PyObject *times)
{
    PyObject *columns = frame_columns(self);
    PyObject *index = columns == NULL ? NULL : frame_times(self, times);
    return make_manager(self->manager, blocks, columns, index);
}

/* Return a frame of this manager, whose reference is taken; NULL if there is no manager. */
static PyObject *
frame_of(const FrameBuilder *self, PyObject *manager, PyObject *attrs)
{
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

/* Return a frame over these arrays, one for each span, whose references are taken. */
static PyObject *
frame_make(const FrameBuilder *self, PyObject **arrays, PyObject *times, PyObject *attrs,
           int shared)
{
    PyObject *blocks = frame_blocks(self, arrays, shared);
    PyObject *manager = blocks == NULL ? NULL : frame_manager(self, blocks, times);
    Py_XDECREF(blocks);
    return frame_of(self, manager, attrs);
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

#endif
