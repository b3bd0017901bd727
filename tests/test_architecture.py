"""Holds the direction of imports, and the table of words of docs/architecture.md."""

import ast
from functools import cache
from pathlib import Path

import sklearn_gflow
from sklearn_gflow.geometry import SOLVERS

ROOT = Path(sklearn_gflow.__file__).parent
FILES = {path.relative_to(ROOT).as_posix(): path for path in sorted(ROOT.rglob("*.py"))}
ROOMS = {
    "contract": {"contract", "exceptions", "__version__"},
    "inputs": {"contract", "inputs"},
    "geometry": {"geometry"},
    "dynamics": {"geometry", "dynamics"},
    "diagnostics": {"geometry", "dynamics", "diagnostics"},
    "estimators": {
        "contract",
        "inputs",
        "geometry",
        "dynamics",
        "diagnostics",
        "estimators",
        "archive",
        "exceptions",
    },
    "onnx": {"inputs", "estimators", "onnx"},
    "plots": {"geometry", "dynamics", "diagnostics", "plots", "exceptions"},
    "archive.py": {"exceptions"},
    "exceptions.py": set(),
    "__init__.py": {"inputs", "estimators", "exceptions"},
}
OPTIONAL = {"matplotlib", "rich", "dask"}


@cache
def tree(name):
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def room(name):
    return name.split("/")[0]


def imports(node):
    """Dotted names of the modules that the code under a node imports."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            if child.module == "sklearn_gflow":  # from sklearn_gflow import geometry
                yield from (f"sklearn_gflow.{alias.name}" for alias in child.names)
            else:
                yield child.module


def functions(node):
    return [
        child
        for child in ast.walk(node)
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    ]


def called(node):
    """Last words of the dotted names that are called or used as attributes."""
    for child in ast.walk(node):
        if isinstance(child, ast.Attribute):
            yield child.attr
        elif isinstance(child, ast.Name):
            yield child.id


def in_every_file(rule):
    """A test that every file keeps a rule, and that names all that break it."""

    def test():
        broken = {}
        for name in FILES:
            try:
                rule(name)
            except AssertionError as error:
                broken[name] = str(error)
        assert not broken

    test.__doc__ = rule.__doc__
    return test


def test_every_file_is_in_a_room():
    assert {room(name) for name in FILES} <= set(ROOMS)
    assert {"geometry", "dynamics", "diagnostics", "estimators"} <= {room(name) for name in FILES}


@in_every_file
def test_imports_point_one_way(name):
    inside = [module for module in imports(tree(name)) if module.startswith("sklearn_gflow")]
    assert {module.split(".")[1] for module in inside} <= ROOMS[room(name)]


@in_every_file
def test_imports_stand_at_the_top(name):
    for function in functions(tree(name)):
        assert {module.split(".")[0] for module in imports(function)} <= OPTIONAL


@in_every_file
def test_libraries_live_in_their_rooms(name):
    libraries = {module.split(".")[0] for module in imports(tree(name))}
    assert not libraries & {"pandas", "polars"}
    if room(name) not in ("contract", "inputs", "estimators", "plots", "exceptions.py"):
        assert not libraries & {"sklearn", "joblib"}
    if room(name) in ("contract", "inputs"):
        assert "torch" not in libraries
    if room(name) != "plots":
        assert "matplotlib" not in libraries
    if room(name) != "onnx":
        assert not libraries & {"onnx", "skl2onnx"}
    if name not in ("estimators/_partitions.py", "estimators/_mapped.py"):
        assert not libraries & {"dask", "pyarrow"}
    if name != "archive.py":
        assert "safetensors" not in libraries
    if room(name) != "estimators" and name != "contract/versions.py":
        assert "warnings" not in libraries


@in_every_file
def test_words_live_in_their_files(name):
    words = set(called(tree(name)))
    if name != "geometry/eigen.py":
        assert not words & {"eigh", "eigvalsh"}
    if name not in ("geometry/solvers/svd.py", "geometry/resolvents.py"):
        assert not words & {"svd", "svdvals"}
    if name != "estimators/_progress.py":
        assert not words & {"print", "on_fit_task_end", "call_on_fit_task_end"}
    if name != "geometry/triangles.py":
        assert not words & {"cholesky", "cholesky_ex", "potrf"}
    if name not in ("geometry/gradients.py", "geometry/layered.py", "geometry/module.py"):
        assert not words & {"jvp", "vjp", "jacrev", "jacfwd", "backward", "autograd"}
    if room(name) != "estimators":
        assert "warn" not in words or name == "contract/versions.py"
        if name not in ("geometry/eigen.py", "geometry/triangles.py"):  # LAPACK, on the CPU
            assert "from_numpy" not in words


NAMES_OF_SOLVERS = set(SOLVERS)


@in_every_file
def test_solvers_are_not_told_apart_by_name(name):
    """What is to be known of one is a fact that it answers for."""
    if room(name) in ("geometry", "diagnostics"):
        compared = [node for node in ast.walk(tree(name)) if isinstance(node, ast.Compare)]
        constants = {
            child.value
            for comparison in compared
            for child in ast.walk(comparison)
            if isinstance(child, ast.Constant) and isinstance(child.value, str)
        }
        assert not constants & NAMES_OF_SOLVERS


@in_every_file
def test_global_state_of_torch_is_left_alone(name):
    """Seeds go into generators; threads and the default dtype belong to the caller."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if name == "estimators/_surroundings.py" and node.attr == "set_num_threads":
                continue  # of a forked process, which has none of the threads of its parent
            assert (node.value.id, node.attr) != ("torch", "manual_seed")
            assert not (node.value.id == "torch" and node.attr.startswith("set_"))


def test_clocks_live_where_times_are():
    # Losses have such functions too, which are no clocks.
    homes = ("dynamics/", "diagnostics/deviation.py", "geometry/losses.py")
    for name in FILES:
        if not name.startswith(homes):
            assert not set(called(tree(name))) & {"log1p", "expm1"}, name


def test_tests_of_the_oracles_import_nothing_of_the_package():
    path = Path(__file__).parent / "oracles.py"
    modules = set(imports(ast.parse(path.read_text(encoding="utf-8"))))
    assert not any(module.startswith("sklearn") for module in modules)


def test_walk_finds_what_it_forbids():
    code = ast.parse("def f():\n    import sklearn.base\n    x.linalg.eigh(G)\n")
    assert list(imports(functions(code)[0])) == ["sklearn.base"]
    assert "eigh" in called(code)
