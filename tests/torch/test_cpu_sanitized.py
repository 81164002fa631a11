"""The fused kernel, built with sanitizers, reads and writes nothing that is not its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from symmetric_layers.torch.kernels import library

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NATIVE = ROOT / "src/symmetric_layers/torch/kernels/native"
CHECKS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
SELECTED = (
    "any_layer or chosen_layers_answer or (every_kind and (2-h+v+hv or 3-hvz or 1-h)) or any_number_of_channels "
    "or (cut_into_tiles and 3-2) or lie_in_memory or gradient_lies or one_place or larger_than or wider_than or "
    "(of_every_size and not few_orbits) or (few_orbits_of_wide and 2-7) or (little_room and ((6-37 and deep and "
    "3-1-1) or (40-32 and lifting))) or in_pieces or every_pool or is_no_number or past_the_caches or "
    "in_the_lanes or leave_pixels_out or (side_by_side and 17) or (share_vectors and (40 or in_pieces)) or "
    "(two_letters and 36-18) or more_weights or rows_of_any_length or add_up or one_column or "
    "(grids_of_every_kind and 3-2-1) or channels_lie_last or set_by_hand or went_and_came_back or several_kinds "
    "or some_mirrors or no_tap_reaches or (several_tiles and 30) or one_number"
)

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ was not found: the kernel cannot be built here."),
    pytest.mark.skipif(library.missing() is not None, reason=f"{library.missing()}"),
]


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    """The kernel for this processor, built with the address and the undefined-behaviour sanitizer.

    As CMake builds it with -DSANITIZE, but one instruction set only and in less time.
    """
    made = tmp_path_factory.mktemp("sanitized") / "libsymmetric_cpu.so"
    best = library.instruction_sets()[0]
    command = [
        "g++",
        "-std=c++17",
        "-O1",
        "-g1",
        "-march=native",
        f"-DNAME={best}",
        "-fopenmp",
        "-fPIC",
        "-shared",
        *CHECKS,
    ]
    sources = [NATIVE / "cpu.cpp", NATIVE / "detect.cpp"]
    said = subprocess.run([*command, *sources, "-o", made], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    return made


def preloaded(name):
    return subprocess.run(
        ["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.timeout(900)
def test_sanitizers_have_nothing_to_say(sanitized):
    environment = {
        **os.environ,
        "LD_PRELOAD": preloaded("libasan.so"),
        # fresh memory holds NaN; Python itself leaks
        "ASAN_OPTIONS": "detect_leaks=0:max_malloc_fill_size=268435456:malloc_fill_byte=255",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "OMP_WAIT_POLICY": "passive",  # threads of two libraries would wait for each other's processors
    }
    names = [f"test_cpu{name}.py" for name in ("", "_shapes", "_stores", "_shares", "_close")]
    names += ["test_mirrored_at_once.py", "test_cpu_two_grids.py", "test_cpu_phases.py", "test_kept.py"]
    tests = [HERE / name for name in names]
    run = [sys.executable, HERE / "run_with_library.py", sanitized, "8", *tests]
    options = ["-n", "0", "-q", "-x", "-s", "-p", "no:cacheprovider", "-k", SELECTED]
    told = subprocess.run([*run, *options], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-6000:]
    assert " passed" in told.stdout
