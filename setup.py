"""The build of the C core, `shmfeed._ringbuf`; the rest is in pyproject.toml.

An optional extension: where it cannot be compiled, the install says so and goes on, and
pure Python serves. `SHMFEED_BUILD_EXTENSION=yes` makes a failure an error, `=no` does
not try.
"""

import os
import runpy
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

VARIABLE = "SHMFEED_BUILD_EXTENSION"
PACKAGE = "shmfeed"
HEADERS = "shmfeed/csrc"
LAYOUT = "shmfeed/layout.py"
HEADER = "layout.h"


def wanted() -> bool | None:
    """Whether the extension is to be built; None: if it can be."""
    text = os.environ.get(VARIABLE, "")
    word = text.strip().lower()
    if word not in ("", "yes", "no"):
        sys.exit(f"{VARIABLE} is {text!r}; it must be yes, no, or unset")
    return {"yes": True, "no": False}.get(word)


def constants() -> dict[str, int]:
    """What C is compiled for: layout.py's whole numbers, and its count of columns."""
    layout = runpy.run_path(LAYOUT)
    numbers = {
        name: value
        for name, value in layout.items()
        if name.isupper() and name[0] != "_" and type(value) is int
    }
    return numbers | {"COLUMNS": len(layout["COLUMNS"])}


def write_layout(path: Path) -> None:
    """The constants as a header. `SHM_LAYOUT(X)` is a list of all, for the module's
    own account of what it was compiled for."""
    numbers = constants()
    lines = [
        f"/* Made by setup.py from {LAYOUT}: not to be edited. */",
        *(f"#define SHM_{name} {value}LL" for name, value in numbers.items()),
        "#define SHM_LAYOUT(X) \\",
        *(f"    X({name}) \\" for name in numbers),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n\n")


class BuildCore(build_ext):
    """Makes the layout header, compiles, and says in words what a failure means."""

    def build_extension(self, ext: Extension) -> None:
        try:
            ext.include_dirs = [self.build_temp, HEADERS, numpy_headers()]
            write_layout(Path(self.build_temp, HEADER))
            super().build_extension(ext)
        except Exception as error:  # whatever it is, there is no C core
            forget_core()
            if ext.optional:
                print(
                    f"shmfeed: the C core was not built ({error}); pure Python serves."
                    f" {VARIABLE}=yes makes this an error",
                    file=sys.stderr,
                )
            raise CompileError(f"the C core cannot be built: {error}") from error


def forget_core() -> None:
    """An earlier build would be packed, or serve in place, as if it were this one."""
    name = "_ringbuf" + sysconfig.get_config_var("EXT_SUFFIX")
    for folder in (Path(), *Path("build").glob("lib*")):
        (folder / PACKAGE / name).unlink(missing_ok=True)


def numpy_headers() -> str:
    try:
        import numpy as np  # noqa: PLC0415 # only where it is built
    except ImportError as error:
        raise CompileError(f"numpy's headers are not there: {error}") from None
    if int(np.__version__.split(".")[0]) < 2:
        # What is built with numpy 2 runs with 1.26 too, and not the other way round.
        raise CompileError(
            f"numpy's headers are of {np.__version__}, not of 2 or later"
        )
    return np.get_include()


def core() -> Extension:
    return Extension(
        "shmfeed._ringbuf",
        sources=[f"{PACKAGE}/_ringbuf.c"],
        depends=["setup.py", LAYOUT, *map(str, sorted(Path(HEADERS).glob("*.h")))],
        define_macros=[
            # The oldest numpy that it runs with is 1.26, which has the API of 1.25.
            ("NPY_TARGET_VERSION", "NPY_1_25_API_VERSION"),
            ("NPY_NO_DEPRECATED_API", "NPY_1_25_API_VERSION"),
        ],
        extra_compile_args=["-O2", "-std=c11", "-Wall", "-Wextra", "-Werror=implicit"],
        optional=not wanted(),
    )


if __name__ == "__main__":
    if wanted() is False:
        forget_core()
    setup(
        ext_modules=[] if wanted() is False else [core()],
        cmdclass={"build_ext": BuildCore},
    )
