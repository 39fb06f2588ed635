"""A source archive whose bytes depend on its files and one time alone."""

import gzip
import io
import tarfile
from pathlib import Path


def normalise(archive: Path, epoch: int) -> None:
    """Write an archive again: members in order, of this time, of no user."""
    with tarfile.open(archive) as packed:
        members = sorted(packed.getmembers(), key=lambda one: one.name)
        contents = {one.name: packed.extractfile(one) for one in members}
        data = {name: file.read() if file else b"" for name, file in contents.items()}
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, mtime=epoch) as squeezed,
        tarfile.open(fileobj=squeezed, mode="w", format=tarfile.PAX_FORMAT) as packed,
    ):
        for member in members:
            packed.addfile(_plain(member, epoch), io.BytesIO(data[member.name]))


def _plain(member: tarfile.TarInfo, epoch: int) -> tarfile.TarInfo:
    plain = tarfile.TarInfo(member.name)
    plain.type, plain.size, plain.linkname = member.type, member.size, member.linkname
    plain.mtime = epoch
    plain.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return plain
