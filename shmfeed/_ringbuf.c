/* The C core: the same classes as the pure Python ring, which is the definition.
 *
 * protocol.h   the protocol of ringbuf.py in C11 atomics
 * liveness.h   the rules of liveness
 * core.h       objects of Python, arguments, bars
 * rows.h       Rows
 * keep.h       setting rows aside: system calls
 * area.h       Area
 * slice.h      Slice, Validity
 * reader.h     RingReader
 * writer.h     RingWriter
 * follower.h   ReattachingReader
 * cut.h        read_cut
 * frame.h      FrameBuilder
 * long_frame.h LongBuilder
 * bar_array.h  ArrayBuilder
 * price_table.h PriceTable: the usual get_price
 * futex.h      futex_load, futex_wait, futex_wait_any, futex_spin
 * wakeup.h     Eventcount, sleep_past, sleep_past_any, spin_past
 *
 * setup.py writes docstrings.h from the definitions: both cores give the same help.
 *
 * It knows columns and strides, not the names of fields. All types rely on the GIL,
 * which is released only while a reader waits or copies many rows, and while several
 * readers are woken. The module does not declare that it can run without the GIL, so an
 * interpreter without one turns it on.
 */

#include "csrc/core.h"

#include "csrc/cut.h"
#include "csrc/wakeup.h"
#include "csrc/follower.h"
#include "csrc/price_table.h"
#include "csrc/futex.h"
#include "csrc/reader.h"
#include "csrc/rows.h"
#include "csrc/slice.h"
#include "csrc/writer.h"

static int
add_layout(PyObject *module)
{
    PyObject *layout = PyDict_New();
    if (layout == NULL) {
        return -1;
    }
#define ADD(name)                                                                     \
    {                                                                                 \
        PyObject *number = PyLong_FromLongLong(SHM_##name);                           \
        int failed =                                                                  \
            number == NULL || PyDict_SetItemString(layout, #name, number) < 0;        \
        Py_XDECREF(number);                                                           \
        if (failed) {                                                                 \
            Py_DECREF(layout);                                                        \
            return -1;                                                                \
        }                                                                             \
    }
    SHM_LAYOUT(ADD)
#undef ADD
    int added = PyModule_AddObjectRef(module, "LAYOUT", layout);
    Py_DECREF(layout);
    return added;
}

static int
add_types(PyObject *module)
{
    PyTypeObject *types[] = {EVENTCOUNT_TYPES &RowsType, &SliceType, &ValidityType,
                             &ReaderType, &WriterType, &ReattachingReaderType,
                             &FrameBuilderType, &LongBuilderType, &ArrayBuilderType,
                             &PriceTableType};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (PyModule_AddType(module, types[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
intern_all(void)
{
    Parameters *all[] = {&view_parameters, &snapshot_parameters, &latest_parameters,
                         &append_parameters, &update_parameters};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (intern_parameters(all[i]) < 0) {
            return -1;
        }
    }
    if (PyType_Ready(&ReadType) < 0 || PyType_Ready(&ReadRecordType) < 0 ||
        intern_frame_names() < 0) {
        return -1;
    }
    Py_XSETREF(find_name, PyUnicode_InternFromString("_find"));
    return find_name == NULL ? -1 : 0;
}

static int
execute(PyObject *module)
{
    if (PyArray_ImportNumPyAPI() < 0) {
        return -1;
    }
    PyDateTime_IMPORT;
    if (PyDateTimeAPI == NULL) {
        return -1;
    }
    int64_descr = PyArray_DescrFromType(NPY_INT64);
    float64_descr = PyArray_DescrFromType(NPY_FLOAT64);
    if (import_names() < 0 || intern_all() < 0 || add_types(module) < 0) {
        return -1;
    }
    if (PyType_Ready(&AreaType) < 0 || take_default_limits() < 0) {
        return -1;
    }
    return add_layout(module);
}

/* The fence of memory/words.py, for the accesses of pure Python beside the rings. */
static PyObject *
fence(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    atomic_thread_fence(memory_order_seq_cst);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    FUTEX_METHODS EVENTCOUNT_METHODS CUT_METHODS KEEP_METHODS {"fence", fence, METH_NOARGS,
                               "Order all accesses above it before all below it."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "shmfeed._ringbuf",
    .m_doc = "The C core: the same classes as the pure Python ring, which is the definition.",
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__ringbuf(void)
{
    return PyModuleDef_Init(&definition);
}
