"""Calls layers as on a GPU, without having one: kernels are compiled with what they are told, and not started.

Prints the names of the kernels that a forward and a backward call compile: of GPUs without an engine that copies boxes
first, then of those that have one. Triton must not interpret them: no TRITON_INTERPRET in the environment.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

import symmetric_layers.torch as layers
from symmetric_layers.torch.kernels import triton as home
from symmetric_layers.torch.kernels.triton import by_pointers, filter_calls, in_boxes, order

H, HV = {"h": 32}, {"hv": 32}
CASES = [(H, None, 3), (HV, HV, 3), (HV, HV, 1), (H, HV, 3)]


class Pretended:
    """A driver that says there is an H100."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


compiled: list[str] = []


def told_with(program: Any, arguments: tuple, told: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The kernel below all decorators, and all that it is told with these arguments and a tile."""
    base = getattr(program, "fn", program) if hasattr(program, "prune_configs") else program
    for name, work_out in getattr(base, "values", {}).items():
        told = {**told, name: work_out({**dict(zip(base.arg_names, arguments, strict=False)), **told})}
    return base if hasattr(base, "warmup") else base.fn, told


def compile_only(program: Any, grid: Callable, *arguments: Any, **named: Any) -> None:
    """In place of starting a kernel: compiles it with the first tile that fits."""
    if hasattr(program, "prune_configs"):
        program.nargs = dict(zip(program.arg_names, arguments, strict=False))
        named |= program.prune_configs(named)[0].all_kwargs()
    base, told = told_with(program, arguments, named)
    assert min(grid(told)) > 0
    base.warmup(*arguments, grid=grid(told), **told)
    compiled.append(base.fn.__name__)


if __name__ == "__main__":
    driver.set_active(Pretended())
    home.interpreted = lambda: True  # tensors may be on processors then
    for module in (by_pointers, filter_calls, in_boxes, order):
        module.start = compile_only
    for has_engine, (symmetry, inputs, kernel) in product((False, True), CASES):
        in_boxes.has_engine = lambda device, found=has_engine: found
        layer = layers.SymmetricConv2d(
            32, 32, kernel, padding=kernel // 2, symmetry=symmetry, in_symmetry=inputs, algorithm="triton"
        ).bfloat16()
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(2, 32, 9, 10).bfloat16().to(memory_format=layout).requires_grad_()
            compiled.clear()
            layer(x).sum().backward()
            print(*compiled, flush=True)
