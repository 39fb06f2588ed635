"""A file of settings becomes settings or BadArgumentError, whatever it contains.

The first byte says which of the three kinds it is.
"""

import atexit
import logging
import os
import shutil
import tempfile
from pathlib import Path

import loop

with loop.watched(__name__):
    from shmfeed.errors import BadArgumentError
    from shmfeed.settings import loading, model

ENDINGS = ("json", "toml", "yaml")
SEEDS = [
    b'0{"symbols":["BTCUSDT"],"resolutions":["1m"],"history":100,"port":[1,2]}',
    b'0{"feed":"a","feed":"b"}',
    b'1symbols = ["BTCUSDT"]\nresolutions = "1m,1h"\nclose_grace = 2.0\n',
    b"1[a]\nb = 1979-05-27T07:32:00Z\n",
    b"2symbols: [BTCUSDT]\nresolutions:\n  - 1m\nmax_reconnect_attempts: null\n",
    b"2a: &x [1]\nb: *x\n? [c]\n: d\n",
    b"2csrf_token: !!python/object:os.system x\nhistory: 0x10\n",
    b'2history: !!int ""\nguard: !!timestamp 1\nallow_insecure: !!bool x\n',
]
_FOLDER = tempfile.mkdtemp()
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
# One file in memory under three names: making a file takes a millisecond.
_MEMORY = os.memfd_create("settings")
for _ending in ENDINGS:
    Path(_FOLDER, f"settings.{_ending}").symlink_to(f"/proc/self/fd/{_MEMORY}")
logging.getLogger("shmfeed").setLevel(logging.CRITICAL)


def one(data: bytes) -> None:
    ending = ENDINGS[data[0] % 3] if data else "json"
    path = Path(_FOLDER, f"settings.{ending}")
    os.ftruncate(_MEMORY, 0)
    os.pwrite(_MEMORY, data[1:], 0)
    try:
        content = loading.read_file(path)
    except BadArgumentError as error:
        assert str(path) in str(error)
        return
    assert isinstance(content, dict)
    try:
        settings = loading.load({loading.CONFIG_FILE: str(path)}, {})
    except BadArgumentError:
        return
    assert model.from_json(model.to_json(settings)) == settings


if __name__ == "__main__":
    loop.fuzz(one, SEEDS)
