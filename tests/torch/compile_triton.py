"""Compiles the kernels for GPUs without having one: `compile_triton.py ARCHITECTURE`; a line of JSON per kernel.

Triton must not interpret them: no TRITON_INTERPRET in the environment.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from symmetric_layers.torch.kernels.triton.answers import answers
from symmetric_layers.torch.kernels.triton.filters import filters
from symmetric_layers.torch.kernels.triton.members import members
from symmetric_layers.torch.kernels.triton.pictures import pictures

TOOLS = pathlib.Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
POINTERS = {"bfloat16": "*bf16", "float16": "*fp16", "float32": "*fp32", "tf32": "*fp32"}
CHANNELS, SIZE = 256, 28

# kernel, numbers, letters, deep, rows, columns, depth, warps, stages
CASES = [
    ("answers", "bfloat16", 1, False, 128, 128, 32, 8, 3),
    ("answers", "bfloat16", 2, True, 64, 64, 32, 4, 2),
    ("answers", "float16", 2, False, 64, 32, 32, 4, 3),
    ("answers", "tf32", 1, True, 128, 64, 16, 4, 3),
    ("answers", "float32", 1, False, 128, 64, 16, 4, 3),
    ("answers", "bfloat16", 3, True, 64, 32, 32, 8, 2),
    ("pictures", "bfloat16", 1, False, 128, 128, 32, 8, 3),
    ("pictures", "float16", 2, False, 128, 64, 32, 4, 3),
    ("filters", "bfloat16", 1, False, 128, 64, 32, 4, 3),
    ("filters", "tf32", 2, True, 64, 64, 16, 4, 2),
    ("filters", "bfloat16", 3, True, 64, 32, 32, 8, 2),
    ("members", "bfloat16", 2, True, 64, 16, 0, 4, 1),
]


def compiled(kernel: Any, architecture: int, options: dict[str, int], constants: dict, arguments: dict) -> Any:
    """The kernel, with what Triton would find out of such arguments: ones, and multiples of 16."""
    signature: dict[str, Any] = {}
    known: dict[tuple, Any] = {}
    facts: dict[tuple, list] = {}

    def kind(place: tuple, value: Any) -> str:
        if value == 1:
            known[place] = 1
            return "constexpr"
        if isinstance(value, str) or value % 16 == 0:
            facts[place] = [["tt.divisibility", 16]]
        return value if isinstance(value, str) else "i32"

    for place, name in enumerate(kernel.fn.arg_names):
        if name in constants:
            known[place,], signature[name] = constants[name], "constexpr"
        elif isinstance(arguments[name], tuple):
            signature[name] = tuple(kind((place, axis), value) for axis, value in enumerate(arguments[name]))
        else:
            signature[name] = kind((place,), arguments[name])
    source = ASTSource(kernel.fn, signature, known, facts)
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)


def asked(kernel, numbers, letters, deep, rows, columns, depth) -> tuple[dict, dict]:
    """Constants and arguments for 3x3 filters (3x3x3 for three letters) and channels-last pictures."""
    rank = max(letters, 2)
    orbits, pointer = CHANNELS // 2**letters, POINTERS[numbers]
    ones = (1,) * (3 - rank)
    steps = [CHANNELS * SIZE**axis for axis in range(rank)[::-1]]
    position = (*[0] * (3 - rank), *steps)
    run = tuple(step // 2**letters for step in position)
    picture = CHANNELS * SIZE**rank
    parts = (picture // 2**letters, 128 * picture // 2**letters, 1, *run)
    arguments = {
        "pixels": 128 * SIZE**rank, "channels": orbits if deep else CHANNELS, "orbits": orbits, "bucket": 17,
        "sizes": (*ones, *[SIZE] * rank), "answer": (*ones, *[SIZE] * rank), "kernel": (*ones, *[3] * rank),
        "stride": (1, 1, 1), "padding": (*[0] * (3 - rank), *[1] * rank), "dilation": (1, 1, 1),
        "lies": parts if deep or kernel == "pictures" else (picture, 0, 1, *position), "gives": parts,
        "into": (picture, 1, *position), **dict.fromkeys(("x", "y", "bias", "packed", "parts"), pointer),
        "sums": "*fp32", "first": 16, "slots": 9, "splits": 8,
    }  # fmt: skip
    if kernel == "members":
        arguments["lies"] = (picture, 1, *position)
    constants = {
        "kind": 2**letters - 1, "pattern": 2**letters - 1, "deep": deep, "together": False, "biased": True,
        "precision": {"tf32": "tf32", "float32": "tf32x3"}.get(numbers, "ieee"), "exact": False, "wide": False,
        "rows": rows, "columns": columns, "depth": depth, "letters": letters, "folding": True,
    }  # fmt: skip
    return constants, arguments


def registers(binary: bytes) -> tuple[int, int]:
    """Registers of a thread, and bytes of the stack, where what has no register is kept."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        said = subprocess.run(
            [TOOLS / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True, check=True
        )
    found = re.search(r"REG:(\d+) STACK:(\d+)", said.stdout + said.stderr)
    return (int(found[1]), int(found[2])) if found else (0, 0)


if __name__ == "__main__":
    kernels = {"answers": answers, "pictures": pictures, "filters": filters, "members": members}
    architecture = int(sys.argv[1])
    for name, *case, warps, stages in CASES if architecture >= 90 else CASES[::3]:
        done = compiled(kernels[name], architecture, {"num_warps": warps, "num_stages": stages}, *asked(name, *case))
        used, stack = registers(done.asm["cubin"])
        tensor_cores = len(re.findall(r"wgmma\.mma_async|mma\.sync", done.asm["ptx"]))
        print(json.dumps([name, *case[:3], tensor_cores, "cp.async" in done.asm["ptx"], used, stack]), flush=True)
