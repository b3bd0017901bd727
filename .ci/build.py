"""Builds the sdist and the wheel, looks into both, and uses the wheel in an empty environment.

`python -m build` makes the wheel from the sdist, so that a file which the sdist lacks is missed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "sklearn_gflow"
# What hatchling adds to an sdist of its own accord.
ADDED = {"PKG-INFO", ".gitignore", "pyproject.toml"}
SMOKE = """
import importlib.metadata, pickle, sys
import numpy as np
import sklearn_gflow
from sklearn_gflow import *
assert sys.prefix in sklearn_gflow.__file__, sklearn_gflow.__file__
assert importlib.metadata.version("sklearn-gflow") == sklearn_gflow.__version__
assert importlib.util.find_spec("pandas") is None
assert importlib.util.find_spec("matplotlib") is None
rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
for search, target in [
    (AdaptedFlowRegressor((8,), random_state=0), X[:, 0]),
    (AdaptedFlowRegressorCV((8,), random_state=0), X[:, 0]),
    (AdaptedFlowClassifier((8,), random_state=0), X[:, 0] > 0),
    (AdaptedFlowClassifierCV((8,), random_state=0), X[:, 0] > 0),
]:
    model = pickle.loads(pickle.dumps(search.fit(X, target)))
    assert model.score(X, target) > 0.8, model
import sklearn_gflow.plots, sklearn_gflow.diagnostics
"""


def main() -> None:
    """Build, look, install, use."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="keep the files in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        out = arguments.out or Path(room, "dist")
        run(sys.executable, "-m", "build", "--outdir", out, ROOT)
        sdist, wheel = the_one(out, "*.tar.gz"), the_one(out, "*.whl")
        check_sdist(sdist)
        check_wheel(wheel)
        use(wheel, sdist, Path(room, "empty"))
    print("sdist and wheel are complete, and work in an empty environment")


def run(*command: object, cwd: Path | None = None) -> None:
    """Run a command, which must succeed."""
    subprocess.run(list(map(str, command)), check=True, cwd=cwd)


def the_one(folder: Path, pattern: str) -> Path:
    """The only file of a kind: what lay there before would be mistaken for what was built."""
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"expected one {pattern} in {folder}, found {[p.name for p in found]}")
    return found[0]


def files(*folders: str) -> set[str]:
    """Files of the project below some folders, without those that .gitignore names."""
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
    return {name for path in paths if not ignored(name := path.relative_to(ROOT).as_posix())}


def ignored(name: str) -> bool:
    """Whether a file is made in use: CI works on a copy that is no repository of git."""
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    names = [line.strip("/") for line in lines if "/" not in line.strip("/")]
    places = [line.strip("/") for line in lines if "/" in line.strip("/")]
    inside = any(name == place or name.startswith(f"{place}/") for place in places)
    return inside or any(fnmatch(part, other) for part in name.split("/") for other in names)


def compare(name: str, found: set[str], expected: set[str]) -> None:
    """Hold the contents of an archive to what they should be."""
    if found != expected:
        missing, stray = sorted(expected - found), sorted(found - expected)
        raise SystemExit(f"{name}: missing {missing}, stray {stray}")


def check_sdist(path: Path) -> None:
    """The package, its tests, examples and pages, and all that builds and licenses it."""
    with tarfile.open(path) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    names = {entry.strip("/") for entry in included}
    folders = {name for name in names if (ROOT / name).is_dir()}
    expected = files(*folders) | (names - folders) | ADDED
    compare(path.name, found, expected)


def check_wheel(path: Path) -> None:
    """The package, the mark that it is typed, its license and its description, nothing else."""
    with zipfile.ZipFile(path) as archive:
        found = set(archive.namelist())
    assert f"{PACKAGE}/py.typed" in found
    described = {name for name in found if re.match(rf"{PACKAGE}-[^/]+\.dist-info/", name)}
    compare(path.name, found - described, files(PACKAGE))
    ends = {name.partition("/")[2] for name in described}
    compare(f"{path.name}, dist-info", ends, {"METADATA", "WHEEL", "RECORD", "licenses/LICENSE"})


def use(wheel: Path, sdist: Path, environment: Path) -> None:
    """Install both, one after the other, where nothing else is, and fit."""
    run(sys.executable, "-m", "venv", environment)
    python = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    install = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-compile",
        "-c",
        ROOT / "constraints.txt",
    ]
    elsewhere = environment  # where no folder has the name of the package
    run(*install, wheel)
    run(python, "-I", "-c", SMOKE, cwd=elsewhere)
    run(*install, "pandas")  # of which the example of README.md takes a frame
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"<!-- example -->\n```python\n(.*?)```", readme, re.DOTALL)
    run(python, "-I", "-c", example, cwd=elsewhere)
    run(*install, "--force-reinstall", "--no-deps", sdist)
    run(python, "-I", "-c", f"import {PACKAGE}", cwd=elsewhere)
    run(python, "-m", "pip", "check")


if __name__ == "__main__":
    main()
