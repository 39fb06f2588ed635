"""The texts of `simulate --faults` become faults or BadArgumentError."""

import loop

with loop.watched(__name__):
    from shmfeed.errors import BadArgumentError
    from shmfeed.simulator.faults.spec import parse_faults

SEEDS = [b"drop:0.1,garbage:0.02", b"late", b"mute@3s", b"skew:-1e999", b"a:nan,,b:"]


def one(data: bytes) -> None:
    try:
        faults = parse_faults(data.decode("utf-8", "replace"))
    except BadArgumentError as error:
        assert len(str(error)) < 20_000
    else:
        assert len(faults) <= len(data)


if __name__ == "__main__":
    loop.fuzz(one, SEEDS)
