"""What the PyTorch layers cost beside the host's own: `python benchmarks/layers.py`.

Prints a training step (forward, gradients of input, weight and bias) of `SymmetricConv2d` against `nn.Conv2d`, the
time to build a layer, the time to import the package, and `GlobalConv1d` against the literal wide convolution.
"""

import statistics
import subprocess
import sys

import torch
from clock import machine, side_by_side, table
from torch import nn

from symmetric_layers.torch import GlobalConv1d, SymmetricConv2d

SHAPES = [  # batch, channels in, channels out, height and width
    (8, 64, 64, 56),
    (8, 128, 128, 28),
    (8, 256, 256, 14),
    (4, 64, 128, 112),
    (32, 512, 512, 7),
    (8, 512, 512, 7),
]
SYMMETRIES = [{"h": "100%"}, {"hv": "100%"}, {"h": "25%", "v": "25%", "hv": "25%"}]


def step(layer: nn.Module, x: torch.Tensor, gradient: torch.Tensor):
    """A training step without its optimizer."""

    def run() -> None:
        layer.zero_grad()
        x.grad = None
        layer(x).backward(gradient)

    return run


def training_steps() -> str:
    """Ratios of a training step to the host's, in the same memory format."""
    rows = []
    for batch, inputs, outputs, size in SHAPES:
        for name, layout in (("contiguous", torch.contiguous_format), ("channels-last", torch.channels_last)):
            x = torch.randn(batch, inputs, size, size).to(memory_format=layout).requires_grad_()
            host = nn.Conv2d(inputs, outputs, 3, padding=1).to(memory_format=layout)
            gradient = torch.randn_like(host(x))
            candidates = {"host": step(host, x, gradient)}
            for symmetry in SYMMETRIES:
                layer = SymmetricConv2d(inputs, outputs, 3, padding=1, symmetry=symmetry).to(memory_format=layout)
                candidates[str(symmetry)] = step(layer, x, gradient)
            times = side_by_side(candidates)
            ratios = [f"{times.ratio(str(symmetry), 'host'):.2f}" for symmetry in SYMMETRIES]
            shape = f"{batch}, {inputs}, {outputs}, {size}"
            rows.append([shape, name, f"{times.milliseconds('host'):.1f} ms", *ratios])
    return table(["batch, Cin, Cout, H=W", "memory", "nn.Conv2d", "h", "hv", "25% h, v, hv each"], rows)


def construction() -> str:
    """The time to build a 256-channel layer."""
    candidates = {"nn.Conv2d": lambda: nn.Conv2d(256, 256, 3)}
    for symmetry in SYMMETRIES:
        candidates[str(symmetry)] = lambda symmetry=symmetry: SymmetricConv2d(256, 256, 3, symmetry=symmetry)
    times = side_by_side(candidates, rounds=51)
    rows = [
        [name, f"{times.milliseconds(name):.2f} ms", f"{times.ratio(name, 'nn.Conv2d'):.2f}"] for name in candidates
    ]
    return table(["256 -> 256 channels, 3x3", "to build", "ratio"], rows)


def importing() -> str:
    """What `import symmetric_layers` takes, each time in a fresh process."""

    code = "import time; t = time.perf_counter(); import symmetric_layers; print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True) for _ in range(31)]
    return f"`import symmetric_layers` takes {statistics.median(float(run.stdout) for run in runs) * 1e3:.1f} ms."


def global_convolution() -> str:
    """`GlobalConv1d` against the convolution it is equal to; forward, 16 -> 16 channels."""
    rows = [_global_convolution(length) for length in (256, 1024, 4096)]
    return table(["features", "GlobalConv1d", "wide nn.Conv1d", "ratio", "relative difference"], rows)


def _global_convolution(length: int) -> list[str]:
    x = torch.randn(1, 16, length)
    layer = GlobalConv1d(16, 16)
    wide = nn.Conv1d(16, 16, 2 * length - 1, padding=length - 1)
    with torch.no_grad():
        wide.weight.copy_(layer.surround[:, :, None].expand_as(wide.weight))
        wide.weight[:, :, length - 1] = layer.centre
        wide.bias.copy_(layer.bias)
        error = (wide(x) - layer(x)).abs().max() / layer(x).abs().max()
        times = side_by_side({"wide": lambda: wide(x), "ours": lambda: layer(x)}, warm_up=1)
    ours, literal = times.milliseconds("ours"), times.milliseconds("wide")
    return [str(length), f"{ours:.3f} ms", f"{literal:.1f} ms", f"1/{times.ratio('wide', 'ours'):.0f}", f"{error:.0e}"]


def main() -> None:
    """Prints everything."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    print(f"{machine()}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads, fp32, medians.\n")
    for part in (training_steps, construction, importing, global_convolution):
        print(part() + "\n", flush=True)


if __name__ == "__main__":
    main()
