/* A number that is another one after each change of a dict. */
#ifndef SHM_DICT_VERSION_H
#define SHM_DICT_VERSION_H

#include <Python.h>

#if PY_VERSION_HEX < 0x030c0000

static inline int
dict_watch(PyObject *Py_UNUSED(dict))
{
    return 0;
}

static inline uint64_t
dict_version(PyObject *dict)
{
    return ((PyDictObject *)dict)->ma_version_tag;
}

#else

/* One number for all dicts that are watched: a change of one counts for each. */
static uint64_t dict_changes = 1;

static int
dict_changed(PyDict_WatchEvent Py_UNUSED(event), PyObject *Py_UNUSED(dict),
             PyObject *Py_UNUSED(key), PyObject *Py_UNUSED(value))
{
    dict_changes++;
    return 0;
}

/* Count the changes of a dict from here on. Return -1 with an error. */
static int
dict_watch(PyObject *dict)
{
    static int watcher = -1;
    if (watcher < 0) {
        watcher = PyDict_AddWatcher(dict_changed);
    }
    return watcher < 0 ? -1 : PyDict_Watch(watcher, dict);
}

static inline uint64_t
dict_version(PyObject *Py_UNUSED(dict))
{
    return dict_changes;
}

#endif
#endif
