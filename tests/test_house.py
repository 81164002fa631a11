"""The house keeps its own rules: who imports whom, what loads what, which sentences are missing."""

import ast
import pathlib
import subprocess
import sys

import pytest

SRC = pathlib.Path(__file__).parent.parent / "src"
PACKAGE = SRC / "symmetric_layers"

# room: (rooms it may import, outside packages it may import)
LAW = {
    "errors": (set(), set()),
    "letters": ({"errors"}, set()),
    "counts": ({"errors", "letters"}, set()),
    "orbits": ({"errors", "letters", "counts"}, set()),
    "groups": ({"errors", "orbits"}, set()),
    "pixels": ({"errors", "letters", "orbits"}, set()),
    "sets": (set(), set()),
    "start": ({"errors", "letters"}, set()),
    "inputs": ({"counts", "errors", "orbits"}, set()),
    "front door": ({"errors", "orbits"}, set()),
    "torch.kernels": ({"errors", "letters", "orbits"}, {"torch"}),
    "torch.kernels.triton": ({"torch.kernels"}, {"torch", "triton"}),
    "torch": (
        {"counts", "errors", "groups", "letters", "orbits", "pixels", "sets", "start", "torch.kernels"},
        {"networkx", "torch"},
    ),
    "keras": ({"counts", "errors", "groups", "inputs", "letters", "orbits", "sets", "start"}, {"keras"}),
    "flax": ({"counts", "errors", "groups", "inputs", "letters", "orbits", "sets", "start"}, {"flax", "jax", "numpy"}),
    "tf1": ({"counts", "errors", "letters", "orbits"}, {"tensorflow"}),
    "compare": (
        {"front door", "errors", "letters", "orbits", "torch"},
        {
            "PIL", "lightning", "matplotlib", "monai", "nilearn", "numpy", "rich", "scipy", "skimage", "sklearn",
            "torch", "torchmetrics", "typer",
        },
    ),
    "command": ({"front door", "errors", "compare"}, set()),
    "old names": ({"torch", "tf1", "keras"}, set()),
}  # fmt: skip
STANDARD_LIBRARY = set(sys.stdlib_module_names)


def room_of(module):
    """The room that a dotted module name lives in, or None for what is not ours."""
    if module in {path.stem for path in SRC.glob("*.py")}:
        return "old names"
    if module.split(".")[0] != "symmetric_layers":
        return None
    inside = module.split(".")[1:]
    if not inside:
        return "front door"
    if inside[0] == "__main__":
        return "command"
    for length in (3, 2):
        if ".".join(inside[:length]) in LAW:
            return ".".join(inside[:length])
    return inside[0]


def module_of(path):
    """The dotted name of a file."""
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree):
    """Every module that a file imports, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield ".", node.lineno
            elif node.module == "symmetric_layers":
                for alias in node.names:
                    path = PACKAGE / alias.name
                    known = path.is_dir() or path.with_suffix(".py").exists()
                    yield f"symmetric_layers.{alias.name}" if known else "symmetric_layers", node.lineno
            else:
                yield node.module, node.lineno


def offences(path, source):
    """The lines that break the law of imports."""
    room = room_of(module_of(path))
    if room not in LAW:
        return [f"{path}: the law says nothing of the room {room!r}"]
    rooms, outside = LAW[room]
    found = []
    for module, line in imports(ast.parse(source)):
        target = room_of(module)
        known = STANDARD_LIBRARY | outside
        allowed = target in rooms | {room} if target else module.split(".")[0] in known
        if not allowed:
            found.append(f"{path}:{line}: {room} may not import {module}")
    return found


FILES = sorted(SRC.rglob("*.py"))


def test_imports_go_downhill():
    assert [line for path in FILES for line in offences(path, path.read_text())] == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("orbits.py", "import numpy"),
        ("errors.py", "from symmetric_layers.orbits import plan"),
        ("torch/pool.py", "import keras"),
        ("torch/pool.py", "from symmetric_layers.keras import pool"),
        ("torch/pool.py", "from . import conv"),
        ("torch/kernels/reference.py", "from symmetric_layers.torch.conv import SymmetricConv2d"),
        ("torch/conv.py", "from symmetric_layers import compare"),
        ("torch/kernels/cpu.py", "import triton"),
        ("torch/kernels/triton/launch.py", "from symmetric_layers.orbits import plan"),
        ("utils.py", "import os"),
    ],
)
def test_the_law_of_imports_can_be_broken(file, line):
    assert offences(PACKAGE / file, line) != []


def test_the_front_door_loads_no_framework():
    heavy = ["numpy", "torch", "tensorflow", "keras", "jax", "typing", "dataclasses", "fractions"]
    code = (
        "import sys; before = set(sys.modules); import symmetric_layers; "
        f"print(sorted((set(sys.modules) - before) & set({heavy})))"
    )
    answer = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=SRC, check=True)
    assert answer.stdout.strip() == "[]"


def definitions(tree):
    """Public classes and functions, and public methods of public classes."""
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
            yield node
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    yield method


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_everything_public_is_explained(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{path} does not say what it is"
    silent = [f"{path}:{node.lineno} {node.name}" for node in definitions(tree) if not ast.get_docstring(node)]
    assert silent == []


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_is_asserted_left_open_or_overlong(path):
    source = path.read_text()
    asserts = [node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
    assert asserts == []
    assert [word for word in ("TODO", "FIXME", "XXX") if word in source] == []
    assert source.count("\n") <= 400


def test_no_room_is_called_utils():
    assert [path for path in FILES if path.stem in ("utils", "common", "helpers", "misc")] == []
