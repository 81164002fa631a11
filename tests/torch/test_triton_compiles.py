"""The kernels for GPUs are compiled for one, wherever the tests run: onto tensor cores, with sums in registers."""

import json
import os
import pathlib
import subprocess
import sys
from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="No triton here: install it, `pip install triton`")
HERE = pathlib.Path(__file__).parent
SPILLED = 512  # bytes of a thread that may lie outside of its 1020 bytes of registers


def lines_of(script, cache, *arguments):
    """What a script prints, in a process where Triton does not interpret."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(cache)  # compiled anew
    done = subprocess.run(
        [sys.executable, HERE / script, *arguments], capture_output=True, text=True, env=environment, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_layers_tell_the_kernels_what_these_want_to_know(tmp_path):
    """A forward and a backward call, in both memory formats."""
    assert [line.split() for line in lines_of("launch_triton.py", tmp_path)] == [
        *[["answers", "members", "pictures", "members", "filters", "filters"]] * 2,  # pictures to orbits
        ["answers", "answers", "members", "filters"],  # orbits to orbits
        ["members", "answers", "answers", "members", "members", "filters"],
        *[["answers", "answers", "members", "filters"]] * 2,  # one pixel read
        ["answers", "answers", "members", "filters"],  # orbits of more letters than the filters have
        ["members", "answers", "answers", "members", "members", "filters"],
    ]


@pytest.mark.parametrize(("architecture", "name"), [(80, "A100"), (90, "H100")])
def test_kernels_multiply_on_tensor_cores_and_keep_their_sums_in_registers(architecture, name, tmp_path):
    lines = [json.loads(line) for line in lines_of("compile_triton.py", tmp_path, str(architecture))]
    assert len(lines) == 12
    for kernel, numbers, letters, deep, tensor_cores, asynchronous, registers, stack in lines:
        case = f"{kernel} {numbers} {letters} letters{' deep' if deep else ''}"
        multiplies = kernel != "members"
        assert (tensor_cores > 0) is (multiplies and numbers != "float32"), case
        assert asynchronous is multiplies, case  # the next tiles are on their way while these are multiplied
        assert 0 < registers <= 255, case
        assert stack <= SPILLED, case
