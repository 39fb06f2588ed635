"""The faults of a wheel: content, tag, C core; found without installing it."""

import re
import tarfile
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from targets import GLIBC, TARGETS

LICENSES = (
    "LICENSE",
    "shmfeed/observe/charts/LICENSE",
    "shmfeed/observe/charts/NOTICE",
)
_TAG = re.compile(r"-(cp3\d+)-\1-\S+_(x86_64|aarch64)\.whl$")
_CORE = re.compile(r"shmfeed/_ringbuf\.cpython-(\d+)-(\w+)-linux-gnu\.so")


def files_of(sdist: Path) -> set[str]:
    """Return the files of the packages in a source archive that a wheel has, too."""
    with tarfile.open(sdist) as packed:
        names = {one.name.partition("/")[2] for one in packed if one.isfile()}
    return {
        name
        for name in names
        if name.startswith(("shmfeed/", "wealthdata/"))
        and not name.endswith(".c")
        and not name.startswith("shmfeed/csrc/")
    }


def faults_of(wheel: Path, files: set[str]) -> list[str]:
    """Return the faults of a wheel that must have these files, in words."""
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        return [
            *(f"lacks {name}" for name in sorted(files.difference(names))),
            *(
                f"lacks the licence {name}"
                for name in LICENSES
                if not any(n.endswith(f".dist-info/licenses/{name}") for n in names)
            ),
            *(
                f"carries {name}"
                for name in names
                if name.split("/")[0].partition("-")[0] not in ("shmfeed", "wealthdata")
                or name.endswith((".c", ".pyc"))
            ),
            *_core_faults(wheel.name, packed),
        ]


def _core_faults(tagged: str, packed: zipfile.ZipFile) -> Iterator[str]:
    """Yield where tag and C core do not agree: a platform's tag promises C."""
    cores = [found for name in packed.namelist() if (found := _CORE.fullmatch(name))]
    tag = _TAG.search(tagged)
    if tag is None:
        if cores or not tagged.endswith("-py3-none-any.whl"):
            yield "has a tag that does not fit its content"
        return
    if [found.groups() for found in cores] != [(tag[1][2:], tag[2])]:
        yield f"has not the C core of its tag, but {[found[0] for found in cores]}"
        return
    (target,) = (one for one in TARGETS if one.cpu == tag[2])
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415  comes with auditwheel

    core = ELFFile(BytesIO(packed.read(cores[0][0])))
    if core["e_machine"] not in (target.machine, f"EM_{target.cpu.upper()}"):
        yield f"has a C core for {core['e_machine']}"
    yield from _linking_faults(core)


def _linking_faults(core: Any) -> Iterator[str]:
    dynamic = core.get_section_by_name(".dynamic")
    for tag in dynamic.iter_tags():
        if tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH"):
            yield "has a C core with a path of the host that built it"
        elif tag.entry.d_tag == "DT_NEEDED" and tag.needed != "libc.so.6":
            yield f"has a C core that needs {tag.needed}"
    if not core.get_section_by_name(".dynsym").get_symbol_by_name("PyInit__ringbuf"):
        yield "has a C core that Python cannot import"
    for library, versions in core.get_section_by_name(".gnu.version_r").iter_versions():
        newest = max(_numbers(one.name) for one in versions)
        if library.name == "libc.so.6" and newest > _numbers(GLIBC):
            yield f"has a C core that needs glibc {'.'.join(map(str, newest))}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(one) for one in re.findall(r"\d+", version))
