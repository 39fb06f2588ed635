"""Check of the store that the settings name: its path, its file, its disk."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from shmfeed.codecs.identity import identity_of
from shmfeed.doctor.finding import Finding, note, ok, problem
from shmfeed.errors import BadArgumentError
from shmfeed.settings.model import Settings
from shmfeed.store.schema import (
    StoreError,
    as_store_errors,
    check_identity_is_known,
    check_path,
    open_to_read,
    stored_identity,
)
from shmfeed.text import MIB, mebibytes

_SCARCE = 256 * MIB


def check_store(settings: Settings) -> Iterator[Finding]:
    """Check the file of the setting `store`; without one there is no finding."""
    path = settings.store
    if path is None:
        return
    try:
        check_path(path)
    except BadArgumentError as error:
        yield problem("store", str(error), "correct it; no feeder starts with it")
        return
    folder = Path(path).absolute().parent
    if not all(os.access(one, os.W_OK) for one in (folder, path) if Path(one).exists()):
        yield problem(
            "store",
            f"{path} cannot be written by this user",
            "correct the owner or the mode of the file and of its directory",
        )
    yield from _check_file(settings, path)
    free = shutil.disk_usage(folder).free
    if free < _SCARCE:
        yield note(
            "disk of the store",
            f"{mebibytes(free)} MiB free in {folder}",
            "make room, or set store_keep, by which a feeder drops old bars",
        )


def _check_file(settings: Settings, path: str) -> Iterator[Finding]:
    if not Path(path).exists():
        yield ok("store", f"{path} is made by the next feeder")
        return
    try:
        with closing(open_to_read(path)) as connection, as_store_errors(path):
            check_identity_is_known(connection, path)
            stored, wanted = stored_identity(connection), identity_of(settings)
            if settings.follows_relay:  # the leader's is known once it is joined
                wanted = stored or wanted
    except StoreError as error:
        yield problem(
            "store",
            str(error),
            "see The store in docs/messages.md; a feeder starts without it meanwhile",
        )
        return
    except BadArgumentError:
        return  # the settings have a finding of their own
    size = f"{mebibytes(Path(path).stat().st_size)} MiB"
    if stored is None or stored.matches(wanted):
        yield ok("store", f"{path}: {size}, bars of {stored or wanted}")
    else:
        yield problem(
            "store",
            f"{path} holds bars of {stored}, and these settings are of {wanted}; a"
            " feeder with them is refused",
            "use another path; or start the feeder with --replace, which drops the"
            " stored bars",
        )
