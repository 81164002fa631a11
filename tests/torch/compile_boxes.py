"""Compiles the kernels that read in boxes for an H100, with all tiles they try; a line of JSON per tile.

Triton must not interpret them: no TRITON_INTERPRET in the environment.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import torch
from compile_triton import registers
from launch_triton import Pretended, told_with
from triton.runtime import driver

import symmetric_layers.torch as layers
from symmetric_layers.torch.kernels import triton as home
from symmetric_layers.torch.kernels.triton import by_pointers, filter_calls, in_boxes, order

CASES = [  # rank, kind, deep, numbers, TF32
    (2, "h", False, torch.bfloat16, False),
    (2, "h", False, torch.float32, True),
    (2, "hv", True, torch.float32, False),
    (3, "hvz", True, torch.bfloat16, False),
]


compiled: set[tuple] = set()


def compile_all(program: Any, grid: Callable, *arguments: Any, **named: Any) -> None:
    """In place of starting a kernel: compiles it with every tile that fits, once for the answer and the gradient."""
    if not hasattr(program, "prune_configs") or program.base_fn.__name__ == "members":
        return
    program.nargs = {}
    for config in program.prune_configs(named):
        tile = [*config.kwargs.values(), config.num_warps, config.num_stages]
        case = (program.base_fn.__name__, NAME, *tile)
        if case in compiled:
            continue  # the gradient of orbits: their answer, but for the bias
        compiled.add(case)
        base, told = told_with(program, arguments, {**named, **config.all_kwargs()})
        done = base.warmup(*arguments, grid=(1,), **told)
        used, stack = registers(done.asm["cubin"])
        tensor_cores = len(re.findall(r"wgmma\.mma_async", done.asm["ptx"]))
        engine = len(re.findall(r"cp\.async\.bulk\.tensor", done.asm["ptx"]))
        line = [program.base_fn.__name__, NAME, tile, tensor_cores, engine, used, stack, done.metadata.shared]
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    driver.set_active(Pretended())
    home.interpreted = lambda: True  # tensors may be on processors then
    in_boxes.has_engine = lambda device: True
    for module in (by_pointers, filter_calls, in_boxes, order):
        module.start = compile_all
    for rank, kind, deep, numbers, tf32 in CASES:
        torch.backends.cudnn.allow_tf32 = tf32
        NAME = f"{kind}{', deep' if deep else ''}, {numbers}{' as TF32' if tf32 else ''}"
        layer = getattr(layers, f"SymmetricConv{rank}d")(
            256, 256, 3, padding=1, symmetry={kind: 256}, in_symmetry={kind: 256} if deep else None, algorithm="triton"
        ).to(numbers)
        x = torch.empty(2, 256, *[8] * rank, dtype=numbers)
        x = x.to(memory_format=(torch.channels_last, torch.channels_last_3d)[rank - 2])
        layer(x.requires_grad_()).sum().backward()
