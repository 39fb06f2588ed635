"""The platforms that get a wheel, and the compiler of each.

A build for another CPU takes the headers of a Python of this host: on 64-bit Linux they
are the same. Python is told the target by the variables that its own cross-builds use.
"""

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

GLIBC = "2.17"  # the oldest that a wheel serves
FLAGS = (
    "-DNDEBUG -g0 -fwrapv -fno-sanitize=undefined"  # no path of this host in a wheel
)
_DATA = "_sysconfigdata_of_the_target"
_ASK = """
import importlib, json, sysconfig
data = importlib.import_module(sysconfig._get_sysconfigdata_name())
print(json.dumps(data.build_time_vars))
"""


@dataclass(frozen=True)
class Target:
    """A CPU of Linux with glibc; `machine` is the number of its ELF files."""

    cpu: str
    machine: int

    @property
    def policy(self) -> str:
        """The tag of its wheels, as PEP 600 spells it."""
        return f"manylinux_{GLIBC.replace('.', '_')}_{self.cpu}"

    def compiler(self) -> str:
        """Return a command that compiles for this CPU: GCC, or zig of the package.

        Raises:
            SystemExit: this host has neither.
        """
        names = [f"{self.cpu}-linux-gnu-gcc"]
        if self.cpu == platform.machine():
            names += ["gcc", "cc"]
        found = [path for name in names if (path := shutil.which(name))]
        zig = [sys.executable, "-m", "ziglang"]
        if (
            not found
            and not subprocess.run(
                [*zig, "version"], capture_output=True, check=False
            ).returncode
        ):
            found = [" ".join([*zig, "cc", "-target", f"{self.cpu}-linux-gnu.{GLIBC}"])]
        if not found:
            sys.exit(
                f"no compiler for {self.cpu}: install {self.cpu}-linux-gnu-gcc"
                f" (package gcc-{self.cpu.replace('_', '-')}-linux-gnu), or ziglang"
                f" with `{sys.executable} -m pip install ziglang`"
            )
        return found[0]

    def environ(self, python: Path, folder: Path) -> dict[str, str]:
        """Return the variables that make this Python build for the target."""
        done = subprocess.run(
            [python, "-c", _ASK], capture_output=True, text=True, check=True
        )
        own = json.loads(done.stdout)
        data = own | self._changed(own)
        (folder / f"{_DATA}.py").write_text(f"build_time_vars = {data!r}\n")
        return {
            "PYTHONPATH": str(folder),
            "_PYTHON_HOST_PLATFORM": f"linux-{self.cpu}",
            "_PYTHON_SYSCONFIGDATA_NAME": _DATA,
        }

    def _changed(self, own: Mapping[str, object]) -> dict[str, str]:
        compiler = self.compiler()
        abi = str(own["SOABI"]).split("-")[1]  # as in cpython-311-x86_64-linux-gnu
        soabi = f"cpython-{abi}-{self.cpu}-linux-gnu"
        return {
            "CC": compiler,
            "CCSHARED": "-fPIC",
            "CFLAGS": FLAGS,
            "EXT_SUFFIX": f".{soabi}.so",
            "LDSHARED": f"{compiler} -shared",
            "MULTIARCH": f"{self.cpu}-linux-gnu",
            "SOABI": soabi,
        }


TARGETS = (Target("x86_64", 62), Target("aarch64", 183))
