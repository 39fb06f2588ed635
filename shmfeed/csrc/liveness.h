/* The rules of liveness, defined in shmfeed/memory/liveness.py. No system call. */
#ifndef SHM_LIVENESS_H
#define SHM_LIVENESS_H

#include "protocol.h"

/* Age of a heartbeat, ns; negative if it lies in the future. */
static inline int64_t
ring_age(const ring_word *heartbeat, int64_t now)
{
    return ring_minus(now, ring_load(heartbeat));
}

static inline bool
ring_is_alive(const ring_word *segment, int64_t now)
{
    int64_t tick = ring_age(segment + SHM_H_TICK, now);
    int64_t alive = ring_age(segment + SHM_H_ALIVE, now);

    return (tick >= -SHM_AHEAD_NS && tick <= SHM_DEAD_NS) ||
           (alive >= -SHM_AHEAD_NS && alive <= SHM_DEAD_NS);
}

static inline bool
ring_is_working(const ring_word *segment, int64_t now)
{
    int64_t tick = ring_age(segment + SHM_H_TICK, now);

    return tick >= -SHM_AHEAD_NS && tick <= SHM_STUCK_NS;
}

static inline bool
ring_is_current(const ring_word *segment, int64_t now)
{
    int64_t tick = ring_age(segment + SHM_H_TICK, now);
    int64_t alive = ring_age(segment + SHM_H_ALIVE, now);

    return ring_load(segment + SHM_H_RETIRED) == 0 &&
           ((tick >= -SHM_DEAD_NS && tick <= SHM_DEAD_NS) ||
            (alive >= -SHM_DEAD_NS && alive <= SHM_DEAD_NS));
}

/* `lookup` is Words.lookup: when readers last looked up the feed's name, and the key. */
static inline bool
ring_is_lookup_due(const ring_word *segment, const int64_t *lookup, int64_t now)
{
    return ring_minus(now, lookup[0]) >= SHM_LOOKUP_NS ||
           ring_load(segment + SHM_H_WAKE) != lookup[1];
}

/* RingReader.live_age: true if the stream of this entry is live and its last update is at
   most `most` ns old; `age` is then its age in ns. */
static inline bool
ring_is_live(const ring_word *segment, const ring_word *entry, int64_t now,
             int64_t most, int64_t *age)
{
    int64_t updated = ring_load(entry + SHM_E_UPDATED);
    int64_t silence = ring_load(entry + SHM_E_SILENCE);

    *age = ring_minus(now, updated);
    return updated != 0 && *age >= 0 && *age <= most &&
           ring_is_working(segment, now) && ring_is_alive(segment, now) &&
           /* A feeder of layout 1 does not mark the streams that a connection lacks. */
           (ring_load(segment + SHM_H_STATE) == SHM_CONNECTED ||
            ring_load(segment + SHM_H_READY) == SHM_READY) &&
           ring_load(entry + SHM_E_SINCE) <= now &&
           ring_load(entry + SHM_E_SUBSCRIBED) != 0 &&
           ring_load(entry + SHM_E_RECOVERING) == 0 &&
           ring_load(entry + SHM_E_AWAY) == 0 && ring_load(entry + SHM_E_REASON) == 0 &&
           /* The last update came after the connection's return. */
           ring_load(entry + SHM_E_BACK) <= updated && (silence == 0 || *age <= silence);
}

#endif
