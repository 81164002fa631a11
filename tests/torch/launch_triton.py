"""Calls layers as on a GPU, without having one: kernels are compiled with what they are told, and not started.

Prints the names of the kernels that a forward and a backward call compile. Triton must not interpret them: no
TRITON_INTERPRET in the environment.
"""

from collections.abc import Callable
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

import symmetric_layers.torch as layers
from symmetric_layers.torch.kernels import triton as home
from symmetric_layers.torch.kernels.triton import calls

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


def compile_only(kernel: Any, grid: Callable, *arguments: Any, **constants: Any) -> None:
    """In place of starting a kernel: compiles it with the first tile that fits."""
    kernel.nargs = dict(zip(kernel.arg_names, arguments, strict=False))
    tile = kernel.prune_configs(constants)[0]
    assert min(grid(tile.kwargs)) > 0
    kernel.fn.warmup(*arguments, grid=grid(tile.kwargs), **constants, **tile.all_kwargs())
    compiled.append(kernel.base_fn.__name__)


if __name__ == "__main__":
    driver.set_active(Pretended())
    home.interpreted = lambda: True  # tensors may be on processors then
    calls.start = compile_only
    for symmetry, inputs, kernel in CASES:
        layer = layers.SymmetricConv2d(
            32, 32, kernel, padding=kernel // 2, symmetry=symmetry, in_symmetry=inputs, algorithm="triton"
        ).bfloat16()
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(2, 32, 9, 10).bfloat16().to(memory_format=layout).requires_grad_()
            compiled.clear()
            layer(x).sum().backward()
            print(*compiled, flush=True)
