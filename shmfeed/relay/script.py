"""The scripts that Redis runs: each is one step, which nothing else can come between.

Every script of the leader's side looks at the fence first. In the hash `epoch` it
holds

    format       the version of the relay's format
    incarnation  a random name, given when there was no such hash: after a loss of all
    epoch        of the leader; each new one is higher, and at least the engine's time
    sequence     of the last flush, from 1 in each epoch
    attempt      of the last flush whose rings were begun
    entry, entry_epoch, entry_sequence   the flush that `state` is as of
    lost         a key that a follower has missed: the leader must write all

A flush arrives with its number. One that came before is dropped, so that a leader
whose answer was lost may send it again; one that skips a number is refused, for the
server has lost those between. A command may also arrive late, out of a connection that
the leader has given up: its number is then below `sequence` or `attempt`.

A flush counts in one step: fence, number, log, head and catalog. Its rows are in the
log then, and followers have them at once, while the rings, which take ten times as
long, are written behind it. A follower that joins takes `state`, then the rings, then
the log from the entry that `state` is as of; so `state` is written only when the rings
have all rows up to it. Rings that are written as a whole, new ones and those of a whole
flush, come before the step instead, for a follower reads them as soon as it counts.

Each script checks all before it writes anything, and its first write is one that Redis
refuses when its memory is full: none is ever done by halves.
"""

import hashlib
from typing import NamedTuple


class Script(NamedTuple):
    """A script and the SHA-1 of its text, by which Redis knows it."""

    text: str
    sha: str


def make_script(text: str) -> Script:
    """Return a script with its SHA-1."""
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


# The first element of a script's answer.
DONE = b"DONE"
FENCED = b"FENCED"  # the epoch of the present leader, "" if there is no fence
HAD = b"HAD"
GAP = b"GAP"  # the sequence that the engine has
LOST = b"LOST"  # the key
FOREIGN = b"FOREIGN"  # the key, its type, its first bytes
TAKEN = b"TAKEN"

# A key may be missing, or hold a string that begins with one of our headers, a hash
# whose values begin with a number, or a log whose first entry has our fields.
_OURS = """
local function foreign(key, kind, header)
  local found = redis.call('TYPE', key).ok
  if found == 'none' then return false end
  if found ~= kind then return {'FOREIGN', key, found, ''} end
  if kind == 'string' and header then
    local held = redis.call('GETRANGE', key, 0, 15)
    if held:sub(1, #header) ~= header then
      return {'FOREIGN', key, found, held}
    end
  end
  return false
end
local function foreign_values(key, all)
  for at = 2, #all, 2 do
    if not all[at]:match('^%d+ ') then return {'FOREIGN', key, 'hash', ''} end
  end
  return false
end
local function foreign_hash(key)
  return foreign(key, 'hash') or foreign_values(key, redis.call('HGETALL', key))
end
local function foreign_log(key)
  local wrong = foreign(key, 'stream')
  if wrong then return wrong end
  local found = redis.call('XREAD', 'COUNT', 1, 'STREAMS', key, '0-0')
  local fields = found and found[1][2][1][2]
  if fields and fields[1] ~= 'e' then return {'FOREIGN', key, 'stream', ''} end
  return false
end
"""

# The time of the server.
_NOW = """
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
"""

# KEYS  fence leader live head catalog state
# ARGV  format, incarnation, ms of the leadership, its name, header of head, catalog,
#       state
LEAD = make_script(
    _OURS
    + _NOW
    + """
local wrong = foreign(KEYS[1], 'hash') or foreign(KEYS[2], 'string')
  or foreign_log(KEYS[3]) or foreign(KEYS[4], 'string', ARGV[5])
  or foreign(KEYS[5], 'string', ARGV[6]) or foreign(KEYS[6], 'string', ARGV[7])
if wrong then return wrong end
local held = redis.call('HMGET', KEYS[1], 'format', 'epoch')
if held[1] ~= ARGV[1] and redis.call('EXISTS', KEYS[1]) == 1 then
  return {'FOREIGN', KEYS[1], 'format', held[1] or ''}
end
local leader = redis.call('GET', KEYS[2])
if leader and not leader:match('^%d+ %S+ %d+ ') then
  return {'FOREIGN', KEYS[2], 'string', leader}
end
if leader and leader:match('^%d+ (%S+)') ~= ARGV[4]:match('^%S+') then
  return {'TAKEN', leader}
end
local now = now_ms()
local epoch = string.format('%.0f', math.max(now, tonumber(held[2] or 0) + 1))
redis.call('HSET', KEYS[1], 'format', ARGV[1], 'epoch', epoch, 'sequence', 0,
  'attempt', 0)
redis.call('HSETNX', KEYS[1], 'incarnation', ARGV[2])
redis.call('SET', KEYS[2], epoch .. ' ' .. ARGV[4], 'PX', ARGV[3])
return {'DONE', epoch}
"""
)

_FENCE = """
local held = redis.call('HMGET', KEYS[1], 'epoch', 'sequence', 'attempt', 'lost')
if held[1] ~= ARGV[1] then return {'FENCED', held[1] or ''} end
"""

# PEXPIRE is never refused for want of memory.
# KEYS  fence leader
# ARGV  epoch, ms of the leadership, its name
RENEW = make_script(
    _FENCE
    + """
local mine = ARGV[1] .. ' ' .. ARGV[3]
local leader = redis.call('GET', KEYS[2])
if not leader then
  redis.call('SET', KEYS[2], mine, 'PX', ARGV[2])
elseif leader == mine then
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
else
  return {'FENCED', leader:match('^%d*')}
end
local time = redis.call('TIME')
return {'DONE', time[1], time[2]}
"""
)

# KEYS  leader
# ARGV  epoch, name
RESIGN = make_script("""
if redis.call('GET', KEYS[1]) == ARGV[1] .. ' ' .. ARGV[2] then
  redis.call('DEL', KEYS[1])
end
return {'DONE'}
""")

# A ring's write may replace it (offset -1) or a part of it. The header says whether the
# ring is there, is ours, and has this capacity.
_RINGS = (
    _OURS
    + """
local function check_ring(key, offset, header)
  local held = redis.pcall('GETRANGE', key, 0, 15)
  if held == header then return false end
  local wrong = foreign(key, 'string', header:sub(1, 8))
  if wrong then return wrong end
  if offset ~= '-1' then return {'LOST', key} end
  return false
end
local function write_ring(key, offset, data)
  if offset == '-1' then
    redis.call('SET', key, data)
  else
    redis.call('SETRANGE', key, offset, data)
  end
end
"""
)

# Write rings: before their flush counts where followers must read them, else after it.
# KEYS  fence leader state, rings
# ARGV  epoch, sequence, ms of the leadership, its name, header of a ring, the flush's
#       entry, state as of it or nothing, then offset and bytes of each ring
RINGS = make_script(
    _FENCE
    + _RINGS
    + """
local sequence, attempt = tonumber(ARGV[2]), tonumber(held[3])
if sequence < tonumber(held[2]) or sequence < attempt then return {'HAD'} end
local wrong = ARGV[7] ~= '' and foreign(KEYS[3], 'string', ARGV[7]:sub(1, 8))
for at = 4, #KEYS do
  wrong = wrong or check_ring(KEYS[at], ARGV[2 * at], ARGV[5])
end
if wrong then return wrong end
for at = 4, #KEYS do write_ring(KEYS[at], ARGV[2 * at], ARGV[2 * at + 1]) end
if sequence > attempt then redis.call('HSET', KEYS[1], 'attempt', sequence) end
if ARGV[7] ~= '' then
  redis.call('SET', KEYS[3], ARGV[7])
  redis.call('HSET', KEYS[1], 'entry', ARGV[6], 'entry_epoch', ARGV[1],
    'entry_sequence', sequence)
end
local mine = ARGV[1] .. ' ' .. ARGV[4]
if redis.call('GET', KEYS[2]) == mine then redis.call('PEXPIRE', KEYS[2], ARGV[3]) end
return {'DONE'}
"""
)

# KEYS  fence live state head catalog
# ARGV  epoch, sequence, 1 if the flush is whole, entries of the log, 1 if followers
#       must join, the flush, state, head, catalog
FLUSH = make_script(
    _FENCE
    + _OURS
    + """
local sequence, is_whole = tonumber(ARGV[2]), ARGV[3] == '1'
if sequence <= tonumber(held[2]) or sequence < tonumber(held[3]) then
  return {'HAD'}
end
if not is_whole then
  if sequence ~= held[2] + 1 then return {'GAP', held[2]} end
  if held[4] then return {'LOST', held[4]} end
  if redis.call('EXISTS', KEYS[4]) == 0 then return {'LOST', KEYS[4]} end
  if redis.call('EXISTS', KEYS[5]) == 0 then return {'LOST', KEYS[5]} end
end
local check_log = is_whole and foreign_log or foreign
local wrong = check_log(KEYS[2], 'stream')
for at = 3, 5 do
  local blob = ARGV[at + 4]
  if blob ~= '' then
    wrong = wrong or foreign(KEYS[at], 'string', blob:sub(1, 8))
  end
end
if wrong then return wrong end
local entry = redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'e', ARGV[1],
  's', ARGV[2], 'j', ARGV[5], 'f', ARGV[6])
for at = 3, 5 do
  if ARGV[at + 4] ~= '' then redis.call('SET', KEYS[at], ARGV[at + 4]) end
end
redis.call('HSET', KEYS[1], 'sequence', sequence)
if ARGV[7] ~= '' then
  redis.call('HSET', KEYS[1], 'entry', entry, 'entry_epoch', ARGV[1],
    'entry_sequence', sequence)
end
if is_whole and held[4] then redis.call('HDEL', KEYS[1], 'lost') end
local time = redis.call('TIME')
return {'DONE', time[1], time[2], entry}
"""
)

# Delete the rings of streams that the feed has no longer.
# KEYS  fence, rings
# ARGV  epoch, header of a ring as far as all rings share it
FORGET = make_script(
    _FENCE
    + _OURS
    + """
for at = 2, #KEYS do
  if not foreign(KEYS[at], 'string', ARGV[2]) then redis.call('UNLINK', KEYS[at]) end
end
return {'DONE'}
"""
)

# Tell that a member lives, and list those that do. An expired one is deleted.
# KEYS  members
# ARGV  ms of life, the member's field, its value
STAND_BY = make_script(
    _OURS
    + _NOW
    + """
local wrong = foreign_hash(KEYS[1])
if wrong then return wrong end
local now = now_ms()
redis.call('HSET', KEYS[1], ARGV[2],
  string.format('%.0f ', now + ARGV[1]) .. ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
local found, all = {'DONE'}, redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
  local ends, value = all[at + 1]:match('^(%d+) (.*)$')
  if ends and tonumber(ends) > now then
    found[#found + 1] = value
  else
    redis.call('HDEL', KEYS[1], all[at])
  end
end
return found
"""
)

# The requests of followers that live; those of others are deleted with their answers.
# KEYS  wants answers
REQUESTS = make_script(
    _OURS
    + _NOW
    + """
local wrong = foreign(KEYS[1], 'hash') or foreign_hash(KEYS[2])
if wrong then return wrong end
local now = now_ms()
local found, all = {'DONE'}, redis.call('HGETALL', KEYS[1])
wrong = foreign_values(KEYS[1], all)
if wrong then return wrong end
for at = 1, #all, 2 do
  local gap = all[at + 1]:find(' ', 1, true)
  if gap and (tonumber(all[at + 1]:sub(1, gap - 1)) or 0) > now then
    found[#found + 1] = all[at]
    found[#found + 1] = all[at + 1]:sub(gap + 1)
  else
    redis.call('HDEL', KEYS[1], all[at])
    redis.call('HDEL', KEYS[2], all[at])
  end
end
return found
"""
)

# Answer a request, unless another leader has come or the follower has gone.
# KEYS  fence wants answers
# ARGV  epoch, ms of life, the follower, the answer
ANSWER = make_script(
    _FENCE
    + """
if redis.call('HEXISTS', KEYS[2], ARGV[3]) == 1 then
  redis.call('HSET', KEYS[3], ARGV[3], ARGV[1] .. ' ' .. ARGV[4])
  redis.call('PEXPIRE', KEYS[3], ARGV[2])
end
return {'DONE'}
"""
)

# Request streams, and return the answer of the present leader.
# KEYS  fence wants answers
# ARGV  ms of life, the follower, the request
REQUEST = make_script(
    _OURS
    + _NOW
    + """
local wrong = foreign(KEYS[1], 'hash') or foreign(KEYS[2], 'hash')
  or foreign(KEYS[3], 'hash')
if not wrong and redis.call('HEXISTS', KEYS[2], ARGV[2]) == 0 then  -- the first one
  wrong = foreign_hash(KEYS[2]) or foreign_hash(KEYS[3])
end
if wrong then return wrong end
local now = now_ms()
redis.call('HSET', KEYS[2], ARGV[2],
  string.format('%.0f ', now + ARGV[1]) .. ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
redis.call('PEXPIRE', KEYS[3], ARGV[1])
local answer = redis.call('HGET', KEYS[3], ARGV[2])
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not answer or not epoch then return {'DONE'} end
local prefix = epoch .. ' '
if answer:sub(1, #prefix) ~= prefix then return {'DONE'} end
return {'DONE', answer:sub(#prefix + 1)}
"""
)

# All that a follower needs to begin but the rings.
# KEYS  fence head catalog state live
JOIN = make_script(
    _OURS
    + """
local wrong = foreign(KEYS[1], 'hash') or foreign(KEYS[2], 'string')
  or foreign(KEYS[3], 'string') or foreign(KEYS[4], 'string')
  or foreign(KEYS[5], 'stream')
if wrong then return wrong end
local time = redis.call('TIME')
local held = redis.call('HMGET', KEYS[1], 'format', 'incarnation', 'entry',
  'entry_epoch', 'entry_sequence')
return {'DONE', time[1], time[2], held, redis.call('GET', KEYS[2]),
  redis.call('GET', KEYS[3]), redis.call('GET', KEYS[4])}
"""
)

# Tell the leader that a key has vanished.
# KEYS  fence
# ARGV  the key
MISS = make_script("""
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'lost', ARGV[1])
end
return {'DONE'}
""")

# Where the leader is, for a follower that has heard nothing.
# KEYS  fence
PLACE = make_script("""
local time = redis.call('TIME')
local held = redis.call('HMGET', KEYS[1], 'incarnation', 'epoch', 'sequence')
return {'DONE', time[1], time[2], held}
""")
