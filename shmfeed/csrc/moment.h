/* Dates as callers write them, for the usual read of a range. wealthdata/times.py has the
   definition, and is called for all but the commonest types. */
#ifndef SHM_MOMENT_H
#define SHM_MOMENT_H

#include <datetime.h>
#include <numpy/arrayscalars.h>

#include "core.h"

/* A point in time, ms UTC; of a date without a time its midnight. */
typedef struct {
    int64_t ms;
    bool is_date;
} Moment;

#define MS_OF_DAY 86400000LL
/* The integers that are milliseconds: those between 1990 and 2200. */
#define FIRST_MS 631152000000LL
#define END_MS 7258118400000LL

#define FIRST_TIME -62135596800000LL  /* ms: 0001-01-01, where the calendar begins */
#define END_TIME 253402300800000LL    /* ms: the year 10000 */

/* Days from 1970-01-01 to a day of the Gregorian calendar. */
static int64_t
days_from_civil(int64_t year, int month, int day)
{
    year -= month <= 2;  /* years begin in March: the leap day is the last one */
    int64_t era = (year >= 0 ? year : year - 399) / 400, of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static inline int64_t
days_of(PyObject *date)
{
    return days_from_civil(PyDateTime_GET_YEAR(date), PyDateTime_GET_MONTH(date),
                           PyDateTime_GET_DAY(date));
}

/* 1 if the fields of the C struct are those of this datetime, 0 if perhaps not, -1 on an
   error. pandas' NaT, and its Timestamps beyond the year 9999, store fields of another time. */
static int
has_own_fields(PyObject *value)
{
    if (PyDateTime_CheckExact(value)) {
        return 1;
    }
    PyObject *year = PyObject_GetAttrString(value, "year");
    if (year == NULL) {
        return -1;
    }
    int same = PyLong_CheckExact(year) &&
               PyLong_AsLongLong(year) == PyDateTime_GET_YEAR(value);
    Py_DECREF(year);
    return PyErr_Occurred() ? -1 : same;
}

/* The offset of an aware datetime in us. 1, 0 without one, -1 on an error. */
static int
utc_offset(PyObject *value, int64_t *offset)
{
    PyObject *zone = PyDateTime_DATE_GET_TZINFO(value);
    *offset = 0;
    if (zone == Py_None || zone == PyDateTime_TimeZone_UTC) {
        return 1;
    }
    PyObject *delta = PyObject_CallMethod(value, "utcoffset", NULL);
    if (delta == NULL) {
        return -1;
    }
    int known = PyDelta_Check(delta);
    if (known) {
        int64_t seconds = PyDateTime_DELTA_GET_DAYS(delta) * 86400LL +
                          PyDateTime_DELTA_GET_SECONDS(delta);
        *offset = seconds * 1000000 + PyDateTime_DELTA_GET_MICROSECONDS(delta);
    }
    Py_DECREF(delta);
    return known;
}

static inline int64_t
floor_divided(int64_t number, int64_t by)
{
    return number / by - (number % by < 0);
}

/* Take a datetime. 1, 0 if Python must look at it, -1 on an error. */
static int
moment_of_datetime(PyObject *value, Moment *moment)
{
    int64_t offset;
    int taken = has_own_fields(value);
    if (taken <= 0 || (taken = utc_offset(value, &offset)) <= 0) {
        return taken;
    }
    int64_t seconds = days_of(value) * 86400 + PyDateTime_DATE_GET_HOUR(value) * 3600 +
                      PyDateTime_DATE_GET_MINUTE(value) * 60 +
                      PyDateTime_DATE_GET_SECOND(value);
    int64_t microseconds = seconds * 1000000 + PyDateTime_DATE_GET_MICROSECOND(value);
    *moment = (Moment){floor_divided(microseconds - offset, 1000), false};
    return 1;
}

/* Take a datetime64 of a usual unit. True if it was taken. */
static bool
moment_of_datetime64(PyObject *value, Moment *moment)
{
    const PyDatetimeScalarObject *scalar = (const PyDatetimeScalarObject *)value;
    int64_t number = scalar->obval;
    if (number == NPY_DATETIME_NAT || scalar->obmeta.num != 1) {
        return false;
    }
    switch (scalar->obmeta.base) {
    case NPY_FR_D:
        if (number < -719162 || number > 2932896) {  /* the years 1 to 9999 */
            return false;
        }
        *moment = (Moment){number * MS_OF_DAY, true};
        return true;
    case NPY_FR_ms:
        *moment = (Moment){number, false};
        return true;
    case NPY_FR_us:
        *moment = (Moment){floor_divided(number, 1000), false};
        return true;
    case NPY_FR_ns:
        *moment = (Moment){floor_divided(number, 1000000), false};
        return true;
    default:
        return false;
    }
}

/* Take what Python found: a wealthdata.times.Moment. */
static int
moment_of_tuple(PyObject *found, Moment *moment)
{
    if (!PyTuple_Check(found) || PyTuple_GET_SIZE(found) != 2) {
        PyErr_SetString(PyExc_TypeError, "a moment is a tuple of two");
        return -1;
    }
    moment->ms = PyLong_AsLongLong(PyTuple_GET_ITEM(found, 0));
    moment->is_date = PyTuple_GET_ITEM(found, 1) == Py_True;
    return PyErr_Occurred() ? -1 : 1;
}

/* Ask Python. 1, 0 if the value is not accepted, -1 on another error. */
static int
moment_by_python(PyObject *to_moment, PyObject *value, Moment *moment)
{
    PyObject *found = PyObject_CallFunction(to_moment, "sO", "date", value);
    if (found == NULL) {
        if (PyErr_ExceptionMatches(PyExc_ValueError)) {
            PyErr_Clear();  /* the general query names the argument */
            return 0;
        }
        return -1;
    }
    int taken = moment_of_tuple(found, moment);
    Py_DECREF(found);
    return taken;
}

/* The number that `count` digits state, -1 for any other character. */
static int64_t
digits_of(const char *text, int count)
{
    int64_t number = 0;
    for (int i = 0; i < count; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return -1;
        }
        number = number * 10 + (text[i] - '0');
    }
    return number;
}

/* Make a moment of its parts. False if there is no such date or time. */
static bool
moment_of_parts(int64_t year, int64_t month, int64_t day, const int64_t *time,
                bool is_date, Moment *moment)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (year < 1 || month < 1 || month > 12) {
        return false;
    }
    bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (day < 1 || day > days[month - 1] + (month == 2 && is_leap) || time[0] < 0 ||
        time[0] > 23 || time[1] < 0 || time[1] > 59 || time[2] < 0 || time[2] > 59) {
        return false;
    }
    int64_t seconds = days_from_civil(year, (int)month, (int)day) * 86400 +
                      time[0] * 3600 + time[1] * 60 + time[2];
    *moment = (Moment){seconds * 1000, is_date};
    return true;
}

/* Take a text of digits alone: 8, 14, or milliseconds. True if it was taken. */
static bool
moment_of_digits(const char *text, Py_ssize_t length, Moment *moment)
{
    int64_t number = digits_of(text, (int)length), time[3] = {0, 0, 0};
    if (number >= FIRST_MS && number < END_MS) {
        *moment = (Moment){number, false};
        return true;
    }
    if (text[0] == '0' || number < 0 || (length != 8 && length != 14)) {
        return false;
    }
    for (int i = 0; length == 14 && i < 3; i++) {
        time[i] = digits_of(text + 8 + 2 * i, 2);
    }
    return moment_of_parts(digits_of(text, 4), digits_of(text + 4, 2),
                           digits_of(text + 6, 2), time, length == 8, moment);
}

/* Take a text of a usual form: YYYY-MM-DD, YYYY-MM-DD HH:MM, YYYY-MM-DD HH:MM:SS, where a T
   may stand for the space, or digits. True if it was taken. */
static bool
moment_of_text(PyObject *value, Moment *moment)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(value);
    if (!PyUnicode_IS_COMPACT_ASCII(value) || length < 8 || length > 19) {
        return false;
    }
    const char *text = (const char *)PyUnicode_1BYTE_DATA(value);
    if (text[4] != '-') {
        return length <= 14 && moment_of_digits(text, length, moment);
    }
    int64_t time[3] = {0, 0, 0};
    bool has_seconds = length == 19;
    if ((length != 10 && length != 16 && !has_seconds) || text[7] != '-') {
        return false;
    }
    if (length > 10) {
        if ((text[10] != ' ' && text[10] != 'T') || text[13] != ':' ||
            (has_seconds && text[16] != ':')) {
            return false;
        }
        for (int i = 0; i < 2 + has_seconds; i++) {
            time[i] = digits_of(text + 11 + 3 * i, 2);
        }
    }
    return moment_of_parts(digits_of(text, 4), digits_of(text + 5, 2),
                           digits_of(text + 8, 2), time, length == 10, moment);
}

/* Take an argument. `texts` has the moments of texts that Python has parsed. Returns as
   moment_by_python does. */
static int
take_moment(PyObject *texts, PyObject *to_moment, PyObject *value, Moment *moment)
{
    if (PyUnicode_CheckExact(value)) {
        if (moment_of_text(value, moment)) {
            return 1;
        }
        PyObject *known = PyDict_GetItemWithError(texts, value);
        if (known != NULL) {
            return moment_of_tuple(known, moment);
        }
    }
    else if (PyLong_CheckExact(value)) {
        int overflow;
        int64_t number = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (number >= FIRST_MS && number < END_MS) {
            *moment = (Moment){number, false};
            return 1;
        }
    }
    else if (PyDateTime_Check(value)) {
        int taken = moment_of_datetime(value, moment);
        if (taken != 0) {
            return taken;
        }
    }
    else if (PyDate_CheckExact(value)) {
        *moment = (Moment){days_of(value) * MS_OF_DAY, true};
        return 1;
    }
    else if (Py_IS_TYPE(value, &PyDatetimeArrType_Type)) {
        if (moment_of_datetime64(value, moment)) {
            return moment->ms >= FIRST_TIME && moment->ms < END_TIME;
        }
    }
    return PyErr_Occurred() ? -1 : moment_by_python(to_moment, value, moment);
}

#endif
