"use strict";
/* Values as text, in the forms in which the server writes them. */

const Format = {
  /* Seconds in their two largest units; "-" for null. */
  age(seconds) {
    if (seconds === null) return "-";
    const s = Math.max(0, seconds);
    if (s < 59.95) return `${s.toFixed(1)} s`;
    const minutes = Math.floor(s / 60);
    const hours = Math.floor(minutes / 60);
    const days = Math.floor(hours / 24);
    if (days) return `${days}d ${hours % 24}h`;
    if (hours) return `${hours}h ${minutes % 60}m`;
    return `${minutes}m ${Math.floor(s % 60)}s`;
  },

  /* Milliseconds UTC as 2026-01-31T08:00:00Z, with milliseconds where there are any. */
  time(ms) {
    if (ms === null) return "-";
    return new Date(ms).toISOString().replace(".000Z", "Z");
  },

  number(value) {
    return value === null ? "-" : String(value);
  },

  count(value) {
    return value.toLocaleString("en");
  },
};
