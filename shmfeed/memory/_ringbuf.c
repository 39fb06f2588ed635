/* The C core of rings. LAYOUT: the constants it was compiled for. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_layout.h"

static int add_layout(PyObject *module) {
    PyObject *layout = PyDict_New();
    if (layout == NULL)
        return -1;
#define ADD(name)                                                             \
    {                                                                         \
        PyObject *number = PyLong_FromLongLong(SHM_##name);                   \
        int failed = number == NULL                                           \
                     || PyDict_SetItemString(layout, #name, number) < 0;      \
        Py_XDECREF(number);                                                   \
        if (failed) {                                                         \
            Py_DECREF(layout);                                                \
            return -1;                                                        \
        }                                                                     \
    }
    SHM_LAYOUT(ADD)
#undef ADD
    int added = PyModule_AddObjectRef(module, "LAYOUT", layout);
    Py_DECREF(layout);
    return added;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, add_layout}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "shmfeed.memory._ringbuf",
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__ringbuf(void) { return PyModuleDef_Init(&definition); }
