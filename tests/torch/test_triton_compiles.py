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
MULTIPROCESSOR = 227 * 1024  # bytes that the threads of an H100 share
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


LIFTING = "packing answers packing members pictures members filters filters unpacking"
DEEP = "packing answers packing members answers members filters unpacking"
SORTED = "packing members answers packing members answers members members filters unpacking"


def test_layers_tell_the_kernels_and_the_copy_engine_what_these_want_to_know(tmp_path):
    """A forward and a backward call, in both memory formats, where all is read by pointers, and where in boxes."""
    found = lines_of("launch_triton.py", tmp_path)
    assert found[:8] == [
        LIFTING, LIFTING,  # pictures to orbits
        DEEP, SORTED,  # orbits to orbits
        DEEP, DEEP,  # one pixel read
        DEEP, SORTED,  # orbits of more letters than the filters have
    ]  # fmt: skip
    # a GPU that has an engine reads everything in boxes, but pixels alone whose members lie side by side
    lifting = "packing box_answers packing members box_pictures members box_filters unpacking"
    deep = "packing members box_answers packing members box_answers members members box_filters unpacking"
    side_by_side = "packing answers packing members box_answers members members box_filters unpacking"
    assert found[8:] == [lifting, lifting, deep, deep, deep, side_by_side, deep, deep]


def test_all_tiles_read_in_boxes_multiply_on_tensor_cores_and_fit_a_multiprocessor(tmp_path):
    """A tile that does not fit would be left out by the tuner, and nobody would know."""
    lines = [json.loads(line) for line in lines_of("compile_boxes.py", tmp_path)]
    assert {kernel for kernel, *_ in lines} == {"box_answers", "box_pictures", "box_filters"}
    assert len(lines) > 40
    for kernel, case, tile, tensor_cores, engine, registers, stack, shared in lines:
        tile = f"{kernel} {case} {tile}"
        assert tensor_cores > 0, tile
        assert engine > 0, tile
        assert 0 < registers <= 255, tile
        assert stack <= SPILLED, tile
        assert shared <= MULTIPROCESSOR, tile


@pytest.mark.parametrize(("architecture", "cases"), [(80, 4), (90, 12)], ids=["A100", "H100"])
def test_kernels_multiply_on_tensor_cores_and_keep_their_sums_in_registers(architecture, cases, tmp_path):
    lines = [json.loads(line) for line in lines_of("compile_triton.py", tmp_path, str(architecture))]
    assert len(lines) == cases
    for kernel, numbers, letters, deep, tensor_cores, asynchronous, registers, stack in lines:
        case = f"{kernel} {numbers} {letters} letters{' deep' if deep else ''}"
        multiplies = kernel != "members"
        assert (tensor_cores > 0) is multiplies, case
        assert asynchronous is multiplies, case  # the next tiles are on their way while these are multiplied
        assert 0 < registers <= 255, case
        assert stack <= SPILLED, case
