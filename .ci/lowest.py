"""Runs the quick tests with the lowest versions that pyproject.toml declares.

On Linux pip takes the CUDA build of that torch, some gigabytes, unless it knows an index with the
CPU build (PIP_EXTRA_INDEX_URL, see README.md).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Of the extras the libraries that the package works with; tools for tests may be of any version.
LIBRARIES = ("pandas", "matplotlib", "rich", "dask", "distributed", "pyarrow")
LOWEST = re.compile(r"([\w-]+)(?:\[[\w,]*\])?>=([\d.]+)")


def main() -> None:
    """Make the environment, unless one is given, and run the tests in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environment", type=Path, help="a virtual environment to make or to use")
    parser.add_argument("tests", nargs="*", help="what to hand to pytest; all quick tests")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        environment = arguments.environment or Path(room, "lowest")
        python = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        if not python.exists():
            run(sys.executable, "-m", "venv", environment)
        pins = Path(room, "lowest.txt")
        pins.write_text("\n".join(lowest()), encoding="utf-8")
        print(pins.read_text(encoding="utf-8"), flush=True)
        run(python, "-m", "pip", "install", "--quiet", "-c", pins, f"{ROOT}[test]")
        # Old libraries use what newer ones below them have deprecated.
        old = [f"ignore::{kind}" for kind in ("DeprecationWarning", "FutureWarning")]
        options = [option for warning in old for option in ("-W", warning)]
        run(python, "-m", "pytest", "-m", "not slow", *options, *arguments.tests)


def lowest() -> list[str]:
    """Pins of what the package needs, and of the libraries in its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = dict(LOWEST.findall("\n".join(project["dependencies"])))
    extras = project["optional-dependencies"].values()
    declared = dict(LOWEST.findall("\n".join(entry for extra in extras for entry in extra)))
    needed |= {name: declared[name] for name in LIBRARIES}
    return [f"{name}=={version}" for name, version in needed.items()]


def run(*command: object) -> None:
    """Run a command in the root, which must succeed."""
    subprocess.run(list(map(str, command)), check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
