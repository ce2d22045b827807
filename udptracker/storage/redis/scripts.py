"""The few decisions that must be taken where the data is: each a script on keys of one swarm, off the hot path.

Modification times are compared as text: both are decimals of 19 digits, and a Lua number holds only 16 of them. A
value of another length is broken and counts as oldest.
"""

from __future__ import annotations

from typing import Any, Final

from udptracker.redis.segment import Segment, segment

_DROP_OLDER: Final = """\
local at = redis.call('HGET', KEYS[1], ARGV[1])
if at and (#at ~= #ARGV[2] or at <= ARGV[2]) then return redis.call('HDEL', KEYS[1], ARGV[1]) end
return 0"""

_LEAVE_ROLE: Final = """\
local at = redis.call('HGET', KEYS[1], ARGV[1])
if not at or (#at == #ARGV[3] and at > ARGV[3]) then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
return (#at == #ARGV[2] and at > ARGV[2]) and 2 or 1"""

_COUNT_DOWNLOAD: Final = """\
if not redis.call('SET', KEYS[1], ARGV[2], 'NX', 'PX', ARGV[3]) then return 0 end
return redis.call('HINCRBY', KEYS[2], ARGV[1], 1)"""

_PUT_NEWER: Final = """\
local at = redis.call('HGET', KEYS[1], ARGV[1])
if at and #at == #ARGV[2] and at >= ARGV[2] then return 0 end
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])"""

_DROP_UNCHANGED: Final = """\
local dropped = 0
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    dropped = dropped + redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return dropped"""

_FORGET_EMPTY: Final = """\
if redis.call('HLEN', KEYS[1]) > 0 then return 0 end
return redis.call('HDEL', KEYS[2], KEYS[1])"""

_RENEW: Final = """\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])"""

_RELEASE: Final = """\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])"""


def _on(key: bytes, script: str, *arguments: Any) -> Segment:
    return segment(key, "EVAL", script, "1", key, *arguments)


def drop_older(key: bytes, peer: bytes, stamp: bytes) -> Segment:
    """Remove a peer from a swarm hash unless it is there with a newer time; replies how many were removed."""
    return _on(key, _DROP_OLDER, peer, stamp)


def leave_role(key: bytes, peer: bytes, stamp: bytes, last: bytes) -> Segment:
    """Remove a peer from a swarm hash unless it is there with a time after `last`; replies 1 if it was removed, and 2
    if its time was after `stamp`."""
    return _on(key, _LEAVE_ROLE, peer, stamp, last)


def count_download(mark: bytes, key: bytes, info_hash: bytes, stamp: bytes, milliseconds: bytes) -> Segment:
    """Count a download unless there is a mark, which is kept for so long; both keys are of one slot."""
    return segment(key, "EVAL", _COUNT_DOWNLOAD, "2", mark, key, info_hash, stamp, milliseconds)


def put_newer(key: bytes, peer: bytes, stamp: bytes) -> Segment:
    """Write a peer unless it is there with this or a newer time; replies 1 if the field is new."""
    return _on(key, _PUT_NEWER, peer, stamp)


def drop_unchanged(key: bytes, entries: list[bytes]) -> Segment:
    """Remove the fields that still have the values they were seen with, given in turn; replies how many."""
    return _on(key, _DROP_UNCHANGED, *entries)


def forget_empty(key: bytes, group: bytes) -> Segment:
    """Take a swarm hash out of its family's if it is empty, on a server that holds both; replies how many."""
    return segment(key, "EVAL", _FORGET_EMPTY, "2", key, group)


def renew_lease(key: bytes, token: bytes, milliseconds: int) -> Segment:
    """Keep a lease that is still ours; replies 0 if it is not."""
    return _on(key, _RENEW, token, str(milliseconds))


def release_lease(key: bytes, token: bytes) -> Segment:
    """Give up a lease that is still ours."""
    return _on(key, _RELEASE, token)
