"""The addresses of a follower's engine."""

import pytest

from shmfeed.codecs.redis import RedisCodec
from shmfeed.errors import BadArgumentError


@pytest.mark.parametrize(
    ("given", "ports", "expected"),
    [
        (["redis://h"], [], ["redis://h:6379/0"]),
        (["redis://h:7000/2"], [], ["redis://h:7000/2"]),
        (["redis://h/1", "rediss://k:1"], [], ["redis://h:6379/1", "rediss://k:1/0"]),
        (["redis://h"], [1, 2], ["redis://h:1/0", "redis://h:2/0"]),
        (["redis://me@h", "redis://me@h"], [], ["redis://me@h:6379/0"]),
    ],
)
def test_addresses(given: list[str], ports: list[int], expected: list[str]) -> None:
    assert RedisCodec().endpoints(given, ports) == expected


@pytest.mark.parametrize("given", [[], ["ws://h"]])
def test_addresses_of_no_engine(given: list[str]) -> None:
    with pytest.raises(BadArgumentError):
        RedisCodec().endpoints(given, [])
