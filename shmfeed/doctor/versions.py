"""Versions: what is installed against what the package's own metadata asks for."""

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
    """All of this module."""
    try:
        ours = metadata.distribution(_PACKAGE)
    except metadata.PackageNotFoundError:
        yield note(
            "versions",
            "shmfeed runs from its source, without metadata: nothing to compare with",
            "install it: `pip install -e .` in its directory",
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
        return  # for those who work on shmfeed itself
    try:
        installed = metadata.version(found[1])
    except metadata.PackageNotFoundError:
        installed = None
    yield check_version(found[1], found[3], installed, extra[1] if extra else None)


def check_version(
    name: str, wanted: str, installed: str | None, extra: str | None = None
) -> Finding:
    """A package's version against bounds like `>=1.9.1,<2`; an extra's is optional."""
    remedy = f"pip install --upgrade '{name}{wanted}'"
    if name == "python":
        remedy = f"make a virtual environment with Python {wanted}"
    if installed is None and extra:
        return note(name, f"is not installed: {_EXTRAS[extra]} need it", remedy)
    if installed is None:
        return problem(name, "is not installed", remedy)
    broken = [
        f"{sign}{bound}"
        for sign, bound in _BOUND.findall(wanted)
        if not _HOLDS[sign](*_padded(installed, bound))
    ]
    if broken:
        return problem(name, f"{installed} is not {', '.join(broken)}", remedy)
    return ok(name, f"{installed}, wanted {wanted.strip() or 'any'}")


def _padded(one: str, other: str) -> tuple[Version, Version]:
    """Both as numbers of the same length; what follows the numbers does not count."""
    versions = [_numbers(one), _numbers(other)]
    length = max(map(len, versions))
    first, second = (v + (0,) * (length - len(v)) for v in versions)
    return first, second


def _numbers(version: str) -> Version:
    numbers = re.match(r"[0-9]+(\.[0-9]+)*", version)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()


def check_socket_module() -> Finding:
    """Whether `import websocket` gives websocket-client: others bear the name too."""
    try:
        where = Path(
            str(metadata.distribution(_SOCKET_PACKAGE).locate_file(_SOCKET_MODULE))
        )
    except metadata.PackageNotFoundError:
        where = Path()
    found = importlib.util.find_spec(_SOCKET_MODULE)
    origin = Path(found.origin).parent if found and found.origin else Path()
    packages = metadata.packages_distributions().get(_SOCKET_MODULE, [])
    others = sorted({one for one in packages if one != _SOCKET_PACKAGE})
    if found is not None and origin == where and not others:
        return ok("module websocket", f"is {_SOCKET_PACKAGE}'s")
    whose = f"{' '.join(others) or origin}'s" if found else "nobody's: it is missing"
    return problem(
        "module websocket",
        f"is {whose}, not {_SOCKET_PACKAGE}'s",
        f"pip uninstall -y {' '.join(others) or _SOCKET_MODULE} {_SOCKET_PACKAGE} &&"
        f" pip install {_SOCKET_PACKAGE}; and no file of yours may be called"
        f" {_SOCKET_MODULE}.py",
    )
