"""Installed versions, compared with the requirements in the package's metadata."""

import importlib.util
import platform
import re
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from shmfeed.doctor.finding import Finding, note, ok, problem

_PACKAGE = "shmfeed"
_EXTRAS = {"cli": "the demo's table", "sim": "the local venue", "yaml": "YAML files"}
_REQUIREMENT = re.compile(
    r"\s*([A-Za-z0-9._-]+)\s*(\[[^]]*\])?\s*\(?([^;)]*)\)?\s*(;.*)?"
)
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
_BOUND = re.compile(r"(>=|<=|==|!=|<|>)\s*([0-9][0-9.]*)")
_SOCKET_MODULE, _SOCKET_PACKAGE = "websocket", "websocket-client"

Version = tuple[int, ...]
_HOLDS: dict[str, Callable[[Version, Version], bool]] = {
    ">=": lambda have, bound: have >= bound,
    "<=": lambda have, bound: have <= bound,
    "==": lambda have, bound: have == bound,
    "!=": lambda have, bound: have != bound,
    "<": lambda have, bound: have < bound,
    ">": lambda have, bound: have > bound,
}


def check_versions() -> Iterator[Finding]:
    """Yield a finding for shmfeed, Python, and each package that shmfeed requires."""
    try:
        ours = metadata.distribution(_PACKAGE)
    except metadata.PackageNotFoundError:
        yield note(
            "versions",
            "required versions are unknown, because shmfeed is not installed",
            "`pip install PATH`, of its clone or wheel",
        )
        return
    yield ok(_PACKAGE, ours.version)
    yield check_version(
        "python", ours.metadata["Requires-Python"] or "", platform.python_version()
    )
    for requirement in ours.requires or ():
        yield from _check_requirement(requirement)
    yield check_socket_module()


def _check_requirement(requirement: str) -> Iterator[Finding]:
    found = _REQUIREMENT.match(requirement)
    if found is None or found[1].lower() == _PACKAGE:
        return
    extra = _EXTRA.search(found[4] or "")
    if extra is not None and extra[1] not in _EXTRAS:
        return  # an extra for the development of shmfeed
    try:
        installed = metadata.version(found[1])
    except metadata.PackageNotFoundError:
        installed = None
    yield check_version(found[1], found[3], installed, extra[1] if extra else None)


def check_version(
    name: str, wanted: str, installed: str | None, extra: str | None = None
) -> Finding:
    """Compare a package's version with bounds like `>=1.9.1,<2`.

    Args:
        name: The package, or `python`.
        wanted: The bounds, comma-separated.
        installed: Its version, None where it is not installed.
        extra: The extra that requires it, None where shmfeed itself does.
    """
    remedy = f"pip install --upgrade '{name}{wanted}'"
    if name == "python":
        remedy = f"make a virtual environment with Python {wanted}"
    if installed is None and extra:
        return note(name, f"is not installed; needed for {_EXTRAS[extra]}", remedy)
    if installed is None:
        return problem(name, "is not installed", remedy)
    broken = [
        f"{sign}{bound}"
        for sign, bound in _BOUND.findall(wanted)
        if not _HOLDS[sign](*_padded(installed, bound))
    ]
    if broken:
        unmet = ", ".join(broken)
        return problem(name, f"version {installed} does not satisfy {unmet}", remedy)
    return ok(name, f"{installed}, required {wanted.strip() or 'any'}")


def _padded(one: str, other: str) -> tuple[Version, Version]:
    """Return the leading numbers of both versions, in the same length."""
    versions = [_numbers(one), _numbers(other)]
    length = max(map(len, versions))
    first, second = (v + (0,) * (length - len(v)) for v in versions)
    return first, second


def _numbers(version: str) -> Version:
    numbers = re.match(r"[0-9]+(\.[0-9]+)*", version)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()


def check_socket_module() -> Finding:
    """Check that `import websocket` loads websocket-client.

    Other packages, or a file of the user's, may have the module's name too.
    """
    try:
        expected = Path(
            str(metadata.distribution(_SOCKET_PACKAGE).locate_file(_SOCKET_MODULE))
        )
    except metadata.PackageNotFoundError:
        expected = Path()
    found = importlib.util.find_spec(_SOCKET_MODULE)
    origin = Path(found.origin).parent if found and found.origin else Path()
    packages = metadata.packages_distributions().get(_SOCKET_MODULE, [])
    others = sorted({package for package in packages if package != _SOCKET_PACKAGE})
    if found is not None and origin == expected and not others:
        return ok("module websocket", f"belongs to {_SOCKET_PACKAGE}")
    owner = " ".join(others) or origin
    return problem(
        "module websocket",
        f"belongs to {owner}, not to {_SOCKET_PACKAGE}" if found else "is missing",
        f"pip uninstall -y {' '.join(others) or _SOCKET_MODULE} {_SOCKET_PACKAGE} &&"
        f" pip install {_SOCKET_PACKAGE}; rename any {_SOCKET_MODULE}.py of your own",
    )
