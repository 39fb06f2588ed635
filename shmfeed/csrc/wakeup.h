/* Eventcount, the sleeps and spin_past, as shmfeed/memory/wakeup.py defines them. */
#ifndef SHM_WAKEUP_H
#define SHM_WAKEUP_H

#include "futex.h"
#include "reader.h"

#ifdef __linux__

#define WAKE_BITS 32

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    Py_buffer buffer;
    uint32_t *word;
} Eventcount;

static inline uint32_t *
eventcount_word(void *segment)
{
    return (uint32_t *)((ring_word *)segment + SHM_H_WAKE);
}

/* Called with an entry number. */
static PyObject *
eventcount_call(PyObject *self, PyObject *const *args, size_t flags, PyObject *names)
{
    if (PyVectorcall_NARGS(flags) != 1 || names != NULL) {
        PyErr_SetString(PyExc_TypeError, "an Eventcount is called with one entry number");
        return NULL;
    }
    size_t index = PyLong_AsSize_t(args[0]);
    if (index == (size_t)-1 && PyErr_Occurred()) {
        return NULL;
    }
    word_bump(((Eventcount *)self)->word);
    futex_wake_all(((Eventcount *)self)->word, (uint32_t)1 << index % WAKE_BITS);
    Py_RETURN_NONE;
}

static PyObject *
eventcount_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"words", NULL};
    PyObject *words;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O", names, &words)) {
        return NULL;
    }
    PyObject *raw = PyObject_GetAttrString(words, "raw");
    Eventcount *self = raw == NULL ? NULL : (Eventcount *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->call = eventcount_call;
        self->word = futex_word(raw, SHM_H_WAKE * SHM_WORD, PyBUF_WRITABLE,
                                &self->buffer);
        if (self->word == NULL) {
            Py_CLEAR(self);
        }
    }
    Py_XDECREF(raw);
    return (PyObject *)self;
}

static void
eventcount_dealloc(Eventcount *self)
{
    if (self->word != NULL) {
        PyBuffer_Release(&self->buffer);
    }
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
eventcount_notify(Eventcount *self, PyObject *bits)
{
    unsigned long mask = PyLong_AsUnsignedLong(bits);
    if (mask == (unsigned long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    word_bump(self->word);
    futex_wake_all(self->word, (uint32_t)mask);
    Py_RETURN_NONE;
}

static PyMethodDef eventcount_methods[] = {
    {"notify", (PyCFunction)eventcount_notify, METH_O, DOC_Eventcount_notify},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject EventcountType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shmfeed._ringbuf.Eventcount",
    .tp_basicsize = sizeof(Eventcount),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(Eventcount, call),
    .tp_doc = DOC_Eventcount___init__ DOC_Eventcount,
    .tp_new = eventcount_new,
    .tp_dealloc = (destructor)eventcount_dealloc,
    .tp_call = PyVectorcall_Call,
    .tp_methods = eventcount_methods,
};

/* The arguments of sleep_past and spin_past; NULL with an error. */
static Reader *
past_arguments(PyObject *const *args, Py_ssize_t given, const char *error,
               int64_t *after, int64_t *timeout)
{
    if (given != 3 || !Py_IS_TYPE(args[0], &ReaderType)) {
        PyErr_SetString(PyExc_TypeError, error);
        return NULL;
    }
    if (as_int64(Py_NewRef(args[1]), after) < 0 ||
        as_int64(Py_NewRef(args[2]), timeout) < 0) {
        return NULL;
    }
    return (Reader *)args[0];
}

static PyObject *
sleep_past(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t given)
{
    int64_t after, timeout;
    Reader *reader = past_arguments(
        args, given, "sleep_past() takes a RingReader, an int and a timeout in ns",
        &after, &timeout);
    if (reader == NULL) {
        return NULL;
    }
    uint32_t *word = eventcount_word(reader->segment);
    uint32_t key = word_load(word); /* W1 */
    int64_t count;
    if (reader_published(reader, &count) < 0) {
        return NULL;
    }
    if (count <= after && timeout > 0) {
        uint32_t bit = (uint32_t)1 << (uint64_t)reader->index % WAKE_BITS;
        int why;
        Py_BEGIN_ALLOW_THREADS
        why = futex_sleep(word, key, bit, timeout);
        Py_END_ALLOW_THREADS
        if (futex_answer(why) < 0 || reader_published(reader, &count) < 0) {
            return NULL;
        }
    }
    return PyLong_FromLongLong(count);
}

/* The index of the one reader of `readers` that has passed its number of `afters`; -1 if
   none has, -2 if several have, -3 with an error. */
static Py_ssize_t
only_past(PyObject *readers, PyObject *afters)
{
    Py_ssize_t found = -1;
    Py_ssize_t size = Py_MIN(PyList_GET_SIZE(readers), PyList_GET_SIZE(afters));
    for (Py_ssize_t i = 0; i < size; i++) {
        int64_t count, after;
        if (reader_published((Reader *)PyList_GET_ITEM(readers, i), &count) < 0 ||
            as_int64(Py_NewRef(PyList_GET_ITEM(afters, i)), &after) < 0) {
            return -3;
        }
        if (count > after) {
            found = found == -1 ? i : -2;
        }
    }
    return found;
}

/* The wake bits of readers of one segment; 0 with an error. */
static uint32_t
bits_of_one_segment(PyObject *readers)
{
    uint32_t bits = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(readers); i++) {
        Reader *reader = (Reader *)PyList_GET_ITEM(readers, i);
        if (!Py_IS_TYPE((PyObject *)reader, &ReaderType) ||
            reader->segment != ((Reader *)PyList_GET_ITEM(readers, 0))->segment) {
            return 0;
        }
        bits |= (uint32_t)1 << (uint64_t)reader->index % WAKE_BITS;
    }
    return bits;
}

static PyObject *
sleep_past_any(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t given)
{
    int64_t timeout;
    uint32_t bits = 0;
    if (given == 3 && PyList_CheckExact(args[0]) && PyList_CheckExact(args[1]) &&
        PyList_GET_SIZE(args[0]) == PyList_GET_SIZE(args[1])) {
        bits = bits_of_one_segment(args[0]);
    }
    if (bits == 0) {
        PyErr_SetString(PyExc_TypeError,
                        "sleep_past_any() takes a list of RingReaders of one segment, "
                        "a list of as many ints and a timeout in ns");
        return NULL;
    }
    if (as_int64(Py_NewRef(args[2]), &timeout) < 0) {
        return NULL;
    }
    uint32_t *word = eventcount_word(((Reader *)PyList_GET_ITEM(args[0], 0))->segment);
    uint32_t key = word_load(word); /* W1 */
    Py_ssize_t only = only_past(args[0], args[1]);
    if (only == -1 && timeout > 0) {
        int why;
        Py_BEGIN_ALLOW_THREADS
        why = futex_sleep(word, key, bits, timeout);
        Py_END_ALLOW_THREADS
        only = futex_answer(why) < 0 ? -3 : only_past(args[0], args[1]);
    }
    return only == -3 ? NULL : PyLong_FromSsize_t(Py_MAX(only, -1));
}

/* The published word of the slot that `word` names, in the mapping of the whole segment:
   that one stays in place while the GIL is released. */
static const ring_word *
published_word(Reader *reader, int64_t word)
{
    int64_t at;
    PyObject *found = PyObject_CallMethod(reader->geometry, "slot_word", "L",
                                          (long long)(word & SHM_SLOT_MASK));
    return as_int64(found, &at) < 0 ? NULL : reader->segment + at + SHM_S_PUBLISHED;
}

/* Look until more rows than `after` are published or the catalog word changes. */
static void
spin_until(const ring_word *published, int64_t after, const ring_word *catalog,
           int64_t word, struct timespec until)
{
    do {
        for (int i = 0; i < LOOKS_BY_CLOCK; i++) {
            if (ring_load(published) > after || ring_load(catalog) != word) {
                return;
            }
            cpu_relax();
        }
    } while (is_before(&until));
}

static PyObject *
spin_past(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t given)
{
    int64_t after, timeout, count;
    Reader *reader = past_arguments(
        args, given, "spin_past() takes a RingReader, an int and a timeout in ns",
        &after, &timeout);
    if (reader == NULL || reader_published(reader, &count) < 0) {
        return NULL;
    }
    if (count <= after && timeout > 0) {
        const ring_word *catalog = reader->entry + SHM_E_WORD;
        int64_t word = reader->word;
        const ring_word *published = published_word(reader, word);
        if (published == NULL) {
            return NULL;
        }
        Py_BEGIN_ALLOW_THREADS
        spin_until(published, after, catalog, word, moment_after(timeout));
        Py_END_ALLOW_THREADS
        if (reader_published(reader, &count) < 0) {
            return NULL;
        }
    }
    return PyLong_FromLongLong(count);
}

#define EVENTCOUNT_TYPES &EventcountType,
#define EVENTCOUNT_METHODS                                                                  \
    {"sleep_past", FUNCTION(sleep_past), METH_FASTCALL, DOC_sleep_past},                    \
    {"sleep_past_any", FUNCTION(sleep_past_any), METH_FASTCALL, DOC_sleep_past_any},        \
    {"spin_past", FUNCTION(spin_past), METH_FASTCALL, DOC_spin_past},

#else
#define EVENTCOUNT_TYPES
#define EVENTCOUNT_METHODS
#endif

#endif
