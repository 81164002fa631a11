"""The fused kernel against the fastest ordinary convolution: `python benchmarks/folding.py [--only forward ...]`.

The rival of every row is the fastest of `F.conv2d` on contiguous and on channels-last tensors and of oneDNN's
convolution with weights packed beforehand, with the same number of filters; all candidates take turns in one process.
Ratios below 1 are faster. A layer is called as a user calls it, with `algorithm='auto'`: in evaluation it keeps its
filters packed, as oneDNN's are, and looks in every call whether they changed; in training it packs them in every call.
"""

import argparse
import copy
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from clock import GOES_BACK, Times, family, machine, maker, memory_stays, put, side_by_side, table
from monai.networks.nets import BasicUNet, DynUNet
from torch import Tensor
from transformers import ResNetConfig, ResNetForImageClassification

from symmetric_layers import torch as ours
from symmetric_layers.torch import equivariant
from symmetric_layers.torch.kernels import library

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
LAST = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}
SHAPES = [  # batch, channels in, channels out, height and width
    (8, 64, 64, 56),
    (8, 128, 128, 28),
    (8, 256, 256, 14),
    (4, 64, 128, 112),
    (8, 512, 512, 7),
    (1, 64, 64, 56),
]
OTHERS = [  # batch, channels in, channels out, size, kernel, stride, rank
    (16, 3, 64, 112, 3, 1, 2),
    (8, 3, 64, 112, 7, 2, 2),
    (8, 64, 128, 56, 3, 2, 2),
    (8, 128, 128, 28, 5, 1, 2),
    (8, 16, 16, 64, 3, 1, 2),
    (4, 32, 32, 32, 3, 1, 2),
    (1, 16, 16, 16, 3, 1, 2),
    (8, 64, 64, 4096, 9, 1, 1),
    (1, 1, 16, 48, 3, 1, 3),
]
ANSWERS = [(16, 3, 64, 112, 3, 1, 2), (8, 3, 64, 112, 7, 2, 2), (8, 64, 64, 56, 3, 1, 2), (1, 32, 32, 32, 3, 1, 3)]


def forward(rank: int, x: Tensor, weight: Tensor, padding: int, stride: int = 1) -> dict[str, Callable[[], object]]:
    """All forms of the ordinary convolution."""
    conv, many = CONV[rank], [padding] * rank
    rivals: dict[str, Callable[[], object]] = {"contiguous": lambda: conv(x, weight, None, stride, padding)}
    if rank > 1:
        last = [t.to(memory_format=LAST[rank]) for t in (x, weight)]
        rivals["channels-last"] = lambda: conv(last[0], last[1], None, stride, padding)
        shape = (many, [stride] * rank, [1] * rank, 1)
        packed = torch.ops.mkldnn._reorder_convolution_weight(last[1], *shape, list(x.shape))
        call = torch.ops.mkldnn._convolution_pointwise
        rivals["packed"] = lambda: call(last[0], packed, None, *shape, "none", [], "")
    return rivals


def step(run: Callable[[Tensor], Tensor], x: Tensor, parameters: list[Tensor]) -> Callable[[], object]:
    """Forward and backward, to the input and the weight."""
    x = x.detach().requires_grad_()
    gradient = torch.randn_like(run(x).detach())
    return lambda: torch.autograd.grad(run(x), [x, *parameters], gradient)


def steps(rank: int, x: Tensor, weight: Tensor, padding: int, stride: int = 1) -> dict[str, Callable[[], object]]:
    """Training steps of the ordinary convolution, in both memory formats."""
    rivals = {}
    for name, layout in (("contiguous", torch.contiguous_format), ("channels-last", LAST[rank])):
        own = weight.to(memory_format=layout).requires_grad_()
        rivals[name] = step(
            lambda x, own=own: CONV[rank](x, own, None, stride, padding), x.to(memory_format=layout), [own]
        )
    return rivals


def layer(
    rank: int, inputs: int, filters: int, kernel: int, kind: str, deep: bool, padding: int, stride: int = 1, **more
):
    """A layer whose filters are all in orbits of one kind."""
    symmetry = {"in_symmetry": {kind: inputs}, **more} if deep else more
    build = getattr(ours, f"SymmetricConv{rank}d")
    whole = {kind: filters} if kind else None
    return build(inputs, filters, kernel, padding=padding, stride=stride, bias=False, symmetry=whole, **symmetry)


def ratios(
    candidates: dict[str, Callable[[], object]], rivals: dict[str, Callable[[], object]]
) -> tuple[str, list[str]]:
    """The time of the fastest rival, and every candidate's ratio to it."""
    times = side_by_side({**rivals, **candidates})
    best = min(rivals, key=times.milliseconds)
    return f"{times.milliseconds(best):.2f} ms {best}", [f"{times.ratio(name, best):.2f}" for name in candidates]


def compare(
    shape: tuple[int, ...], kinds: tuple[str, ...], rank: int = 2, kernel: int = 3, deep: bool = False, stride: int = 1
) -> list[list[str]]:
    """Two rows, forward and with gradients: ratios for channels-last and contiguous tensors."""
    batch, inputs, filters, size = shape
    padding = kernel // 2
    x, weight = torch.randn(batch, inputs, *[size] * rank), torch.randn(filters, inputs, *[kernel] * rank)
    forwards, both = {}, {}
    for layout in (LAST[rank], torch.contiguous_format):
        for kind in kinds:
            own = layer(rank, inputs, filters, kernel, kind, deep, padding, stride, grid="mirrored")
            pictures = x.to(memory_format=layout)
            forwards[f"{kind} {layout}"] = lambda own=own, pictures=pictures: own(pictures)
            both[f"{kind} {layout}"] = step(own, pictures, [own.weight])
    name = f"{', '.join(map(str, shape))}{', deep' if deep else ''}{f', {kernel}x{kernel}' if kernel != 3 else ''}"
    with torch.no_grad():
        first = ratios(forwards, forward(rank, x, weight, padding, stride))
    second = ratios(both, steps(rank, x, weight, padding, stride))
    return [[name, what, time, *found] for what, (time, found) in (("forward", first), ("+ backward", second))]


HEADER = ["batch, Cin, Cout, size", "", "fastest rival", "h", "hv", "h contiguous", "hv contiguous"]


def lifting() -> str:
    """Pictures to orbits, 3x3."""
    return table(HEADER, [row for shape in SHAPES for row in compare(shape, ("h", "hv"))])


def deep() -> str:
    """Orbits to orbits, 3x3, and 1x1."""
    rows = [row for shape in SHAPES[:5] for row in compare(shape, ("h", "hv"), deep=True)]
    return table(HEADER, rows + compare((8, 256, 256, 28), ("h", "hv"), kernel=1, deep=True))


def strides() -> str:
    """Strides of 2 on the mirrored grid, orbits to orbits, and 1x1."""
    shapes = [(8, 64, 128, 56), (8, 128, 256, 28), (8, 256, 512, 14), (8, 64, 128, 57)]
    rows = [row for shape in shapes for row in compare(shape, ("h", "hv"), deep=True, stride=2)]
    return table(HEADER, rows + compare(shapes[0], ("h", "hv"), kernel=1, deep=True, stride=2))


RISING = [  # rank; batch, channels in, channels out, size; kernel
    (2, (8, 128, 64, 28), 2),
    (2, (8, 128, 64, 28), 4),
    (2, (4, 256, 128, 14), 2),
    (3, (1, 64, 32, 24), 2),
    (3, (1, 256, 128, 6), 2),
]
CONV_TRANSPOSE = {2: F.conv_transpose2d, 3: F.conv_transpose3d}


def rising(rank: int, shape: tuple[int, ...], kernel: int) -> dict[str, tuple[Callable, Tensor, Tensor]]:
    """Transposed layers with strides of 2, ordinary ones and orbits, in both memory formats; with their filters."""
    batch, inputs, filters, size = shape
    padding, build = kernel // 2 - 1, getattr(ours, f"SymmetricConvTranspose{rank}d")
    x, weight = torch.randn(batch, inputs, *[size] * rank), torch.randn(inputs, filters, *[kernel] * rank)
    calls: dict[str, tuple[Callable, Tensor, Tensor]] = {}
    for name, layout in (("contiguous", torch.contiguous_format), ("channels-last", LAST[rank])):
        full, pictures = weight.to(memory_format=layout).requires_grad_(), x.to(memory_format=layout)
        plain = partial(CONV_TRANSPOSE[rank], weight=full, stride=2, padding=padding)
        calls[name] = plain, pictures, full
        for kind in ("h", "hv" if rank == 2 else "hvz"):
            how = {"bias": False, "symmetry": {kind: filters}, "in_symmetry": {kind: inputs}}
            own = build(inputs, filters, kernel, 2, padding, **how)
            calls[f"{kind} {name}"] = own, pictures, own.weight
    return calls


def transposed() -> str:
    """Transposed layers with strides of 2, orbits to orbits."""
    rows = []
    for rank, shape, kernel in RISING:
        calls = rising(rank, shape, kernel)
        with torch.no_grad():
            first = side_by_side({label: partial(run, x) for label, (run, x, _) in calls.items()})
        second = side_by_side({label: step(run, x, [own]) for label, (run, x, own) in calls.items()})
        for what, times in (("forward", first), ("+ backward", second)):
            best = min(("contiguous", "channels-last"), key=times.milliseconds)
            numbers = ", ".join(f"{label} {times.ratio(label, best):.2f}" for label in calls if " " in label)
            name = f"{', '.join(map(str, shape))}, {rank}-D, kernel {kernel}"
            rows.append([name, what, f"{times.milliseconds(best):.2f} ms {best}", numbers])
    return table(["batch, Cin, Cout, size", "", "fastest rival", "ratios"], rows)


def volumes() -> str:
    """Three dimensions, all three letters."""
    rows = [row for deep in (False, True) for shape in ((1, 32, 32, 32), (1, 64, 64, 32))
            for row in compare(shape, ("hvz",), rank=3, deep=deep)]  # fmt: skip
    return table([*HEADER[:3], "hvz", "hvz contiguous"], rows)


def others(shapes: list[tuple[int, ...]] = OTHERS) -> str:
    """Stems, strides, small pictures, other ranks: what 'auto' makes of them, against the fastest rival."""
    rows = []
    for batch, inputs, filters, size, kernel, stride, rank in shapes:
        x, weight = torch.randn(batch, inputs, *[size] * rank), torch.randn(filters, inputs, *[kernel] * rank)
        kinds = ("h",) if rank == 1 else ("h", "hv") if rank == 2 else ("h", "hvz")
        found = {}
        for kind in kinds:
            for layout in {LAST[rank], torch.contiguous_format} if rank > 1 else {torch.contiguous_format}:
                own = layer(rank, inputs, filters, kernel, kind, False, kernel // 2, stride)  # keeps one note
                pictures = x.to(memory_format=layout)
                found[f"{kind} {str(layout).split('.')[1]}"] = lambda own=own, pictures=pictures: own(pictures)
        with torch.no_grad():
            time, numbers = ratios(found, forward(rank, x, weight, kernel // 2, stride))
        name = f"{batch}, {inputs}, {filters}, {size}, {rank}-D, kernel {kernel}, stride {stride}"
        rows.append([name, time, ", ".join(f"{key} {number}" for key, number in zip(found, numbers, strict=True))])
    return table(["batch, Cin, Cout, size", "fastest rival", "ratios"], rows)


def cleared() -> str:
    """The same where freed memory goes back to the system: every answer is written to pages that are cleared first."""
    own = [sys.executable, __file__, "--cleared", "--threads", str(torch.get_num_threads())]
    environment = {**os.environ, **GOES_BACK}
    return subprocess.run(own, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def pools() -> str:
    """Max pooling on the mirrored grid (3 wide, stride 2), against PyTorch's own pool."""
    rows = []
    for shape, rank, kinds in (((4, 64, 112, 112), 2, ("h", "hv")), ((1, 32, 48, 48, 48), 3, ("hvz",))):
        for layout in (LAST[rank], torch.contiguous_format):
            pool = getattr(torch.nn, f"MaxPool{rank}d")(3, 2, 1)
            x = torch.randn(shape).to(memory_format=layout)
            found = {kind: ours.Mirrored(pool, {kind: shape[1]}) for kind in kinds}
            name = f"{', '.join(map(str, shape))}, {'channels-last' if layout is LAST[rank] else 'contiguous'}"
            with torch.no_grad():
                first = ratios({kind: partial(own, x) for kind, own in found.items()}, {"PyTorch": partial(pool, x)})
            second = ratios({kind: step(own, x, []) for kind, own in found.items()}, {"PyTorch": step(pool, x, [])})
            for what, (time, numbers) in (("forward", first), ("+ backward", second)):
                told = ", ".join(f"{kind} {n}" for kind, n in zip(kinds, numbers, strict=True))
                rows.append([name, what, time, told])
    return table(["picture", "", "PyTorch's pool", "ratios"], rows)


RESNET = ResNetConfig(
    embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", num_labels=10
)
NETWORKS = {
    "ResNet-18, 4 x 3 x 224 x 224": (lambda: ResNetForImageClassification(RESNET), (4, 3, 224, 224), ("h", "hv")),
    "3-D BasicUNet, 48 x 48 x 48": (
        lambda: BasicUNet(3, 1, 2, (32, 32, 64, 128, 256, 32)), (1, 1, 48, 48, 48), ("hvz",),
    ),
    "3-D DynUNet, 48 x 48 x 48": (
        lambda: DynUNet(3, 1, 2, [3] * 4, [1, 2, 2, 2], [2, 2, 2], filters=[32, 64, 128, 256]), (1, 1, 48, 48, 48),
        ("hvz",),
    ),
}  # fmt: skip


def twins(name: str) -> dict[str, tuple[torch.nn.Module, Tensor]]:
    """A plain network and its mirrored twins, and pictures for each, in both memory formats."""
    make, shape, kinds = NETWORKS[name]
    plain, x, found = make().eval(), torch.randn(shape), {}
    for layout in (torch.contiguous_format, LAST[x.dim() - 2]):
        for kind in ("", *kinds):
            own = equivariant(plain, kind, example=x, measure=False) if kind else copy.deepcopy(plain)
            label = f"{kind or 'plain'} {'contiguous' if layout is torch.contiguous_format else 'channels-last'}"
            found[label] = (own.to(memory_format=layout), x.to(memory_format=layout))
    return found


def best_plain(times: Times) -> str:
    """The fastest form of the plain network."""
    return min((label for label in times.turns if label.startswith("plain")), key=times.milliseconds)


def networks() -> str:
    """Whole networks, equal channels, evaluation: the twin against the plain network, and against mirror averaging."""
    rows = []
    for name in NETWORKS:
        with torch.no_grad():
            times = side_by_side({label: partial(own.eval(), x) for label, (own, x) in twins(name).items()})
        best = best_plain(times)
        for label in times.turns:
            ratio, passes = times.ratio(label, best), 2 ** len(label.split()[0])
            averaged = "" if label.startswith("plain") else f"{ratio / passes:.3f}"
            rows.append([name, label, f"{times.milliseconds(label):.0f} ms", f"{ratio:.2f}", averaged])
    return table(["network", "", "time", "to the fastest plain form", "to mirror averaging with it"], rows)


def learning(own: torch.nn.Module, x: Tensor) -> Callable[[], None]:
    """Forward and backward, to all parameters."""
    own.train()

    def run() -> None:
        answer = own(x)
        (answer if isinstance(answer, Tensor) else answer[0]).square().mean().backward()

    return run


def training() -> str:
    """The same networks, forward and backward in training mode."""
    rows = []
    for name in NETWORKS:
        times = side_by_side({label: learning(*both) for label, both in twins(name).items()})
        best = best_plain(times)
        rows += [
            [name, label, f"{times.milliseconds(label):.0f} ms", f"{times.ratio(label, best):.2f}"]
            for label in times.turns
        ]
    return table(["network", "", "time", "to the fastest plain form"], rows)


PARTS = {"lifting": lifting, "deep": deep, "strides": strides, "transposed": transposed, "volumes": volumes,
         "others": others, "cleared": cleared, "pools": pools, "networks": networks, "training": training}  # fmt: skip


ZEN_5 = 26  # the family of AMD's processors that multiply and add twice in a cycle with AVX-512


def place() -> str:
    """Which table of the page is this machine's: of its instruction set, and of AVX-512 by how it multiplies."""
    instructions = library.instruction_sets()[0]
    if instructions != "avx512":
        return f"folding-{instructions}"
    if maker() == "GenuineIntel":
        return "folding-avx512-intel"
    return "folding-avx512-zen5" if family() >= ZEN_5 else "folding-avx512"


def where(threads: int) -> str:
    """On what was measured, for the line above a table."""
    return f"{machine()}, {library.instruction_sets()[0]}, PyTorch {torch.__version__}, {threads} threads"


README = pathlib.Path(ours.__file__).parent / "kernels" / "README.md"


def main() -> None:
    """Prints everything, or the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="also write the tables into the kernels' README")
    parser.add_argument("--cleared", action="store_true", help=argparse.SUPPRESS)  # what `cleared` asks itself
    asked = parser.parse_args()
    memory_stays()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    if asked.cleared:
        print(others(ANSWERS))
        return
    parts = [f"{where(asked.threads)}, fp32, medians; freed memory stays with the process."]
    print(parts[0] + "\n")
    for part in asked.only:
        parts.append(f"{PARTS[part].__doc__}\n\n{PARTS[part]()}\n")
        print(parts[-1], flush=True)
    if asked.write:
        put(README, place(), "\n\n".join(parts).strip())


if __name__ == "__main__":
    main()
