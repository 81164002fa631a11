"""The kernels for GPUs against cuDNN: `python benchmarks/gpu_folding.py [--only layers ...] [--write]`. Needs a GPU.

The rival of every row is the fastest of `F.conv` on contiguous and on channels-last tensors, in benchmark mode, with
the same number of filters. Everything is checked first against float64. Candidates take turns; every call is a CUDA
graph of its own, timed by CUDA events after the L2 cache was overwritten. Ratios below 1 are faster; what is slower is
printed, too.
"""

import argparse
import contextlib
import copy
import pathlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from clock import Times, machine, put, table
from torch import Tensor, nn

from symmetric_layers import torch as ours
from symmetric_layers.torch import equivariant, why_not

DEVICE = "cuda"
CONV = {2: F.conv2d, 3: F.conv3d}
LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
KINDS = {2: ("h", "hv"), 3: ("hvz",)}
NUMBERS = {  # name: dtype, whether TF32 is allowed
    "bf16": (torch.bfloat16, False),
    "fp32": (torch.float32, False),
    "tf32": (torch.float32, True),
}
SHAPES = [  # batch, channels, height and width
    (256, 128, 28),
    (64, 256, 28),
    (256, 256, 14),
    (64, 512, 28),
]
VOLUMES = [(4, 64, 48)]
ROUNDS, WARM_UP = 20, 3
OVERWRITTEN = 512 * 2**20  # bytes, larger than any L2
TOLERANCE = {"bf16": 3e-2, "fp32": 2e-6, "tf32": 2e-3}  # of the largest number; TF32 keeps ten bits
README = pathlib.Path(ours.__file__).parent / "kernels" / "README.md"

Call = Callable[[], object]


def in_turns(candidates: dict[str, Call]) -> Times:
    """Times all candidates by CUDA events; between any two calls the L2 cache is overwritten."""
    times, filler = Times(list(candidates)), torch.empty(OVERWRITTEN // 4, device=DEVICE)
    for turn in range(WARM_UP + ROUNDS):
        for name, call in candidates.items():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            filler.fill_(turn)
            begin.record()
            call()
            end.record()
            torch.cuda.synchronize()
            if turn >= WARM_UP:
                times.turns[name].append(begin.elapsed_time(end) / 1e3)
    return times


def captured(call: Call) -> Call:
    """The same as a CUDA graph, so that only the GPU is timed; tuners and benchmark mode have their say before."""
    for _ in range(3):
        call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        call()
    return graph.replay


def peak(numbers: str) -> float:
    """Products per second of a large product of matrices."""
    a, b = (torch.randn(8192, 8192, device=DEVICE, dtype=NUMBERS[numbers][0]) for _ in range(2))
    times = in_turns({"matmul": captured(lambda: a @ b)})
    return 8192**3 / (times.milliseconds("matmul") / 1e3)


@contextlib.contextmanager
def multiplying(numbers: str):
    """Sets whether float32 may be multiplied as TF32."""
    backends = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = NUMBERS[numbers][1]
    yield
    for backend, allowed in zip(backends, before, strict=True):
        backend.allow_tf32 = allowed


def layer(rank: int, channels: int, kernel: int, kind: str, deep: bool, dtype: torch.dtype, stride: int) -> nn.Module:
    """A layer whose filters are all in orbits of one kind, and mirror at every size."""
    build = getattr(ours, f"SymmetricConv{rank}d")
    inputs = {"in_symmetry": {kind: channels}} if deep else {}
    more = {"padding": kernel // 2, "bias": False, "algorithm": "triton", "symmetry": {kind: channels}, **inputs}
    return build(channels, channels, kernel, stride, device=DEVICE, dtype=dtype, grid="mirrored", **more)


def step(run: Callable[[Tensor], Tensor], x: Tensor, parameters: list[Tensor]) -> Call:
    """Forward and backward, to the input and the weight."""
    x = x.detach().requires_grad_()
    gradient = torch.randn_like(run(x).detach())
    return lambda: torch.autograd.grad(run(x), [x, *parameters], gradient)


def check(own: nn.Module, x: Tensor, numbers: str) -> None:
    """The answer and both gradients beside float64; a kernel that is wrong is not measured."""
    torch.backends.cudnn.benchmark = False  # float64 is slow, and asked once
    exact = copy.deepcopy(own).double()
    exact.algorithm = "reference"
    found, gradient = {}, None
    for name, module, seen in (("ours", own, x.detach()), ("theirs", exact, x.detach().double())):
        seen = seen.requires_grad_()
        y = module(seen)
        gradient = torch.randn_like(y) if gradient is None else gradient
        found[name] = y.detach(), *torch.autograd.grad(y, [seen, module.weight], gradient.to(y))
    torch.backends.cudnn.benchmark = True
    for mine, theirs in zip(found["ours"], found["theirs"], strict=True):
        error = ((mine - theirs).abs().max() / theirs.abs().max()).item()
        if not error < TOLERANCE[numbers]:
            raise SystemExit(f"{own}: the error is {error:.1e}. Expected less than {TOLERANCE[numbers]:.0e}.")


def compare(
    rank: int, shape: tuple[int, int, int], kernel: int, deep: bool, numbers: str, best: float, stride: int = 1
) -> list:
    """Two rows, forward and with gradients; ours has channels-last tensors, the rival what is faster."""
    (batch, channels, size), dtype, padding = shape, NUMBERS[numbers][0], kernel // 2
    x = torch.randn(batch, channels, *[size] * rank, device=DEVICE, dtype=dtype)
    weight = torch.randn(channels, channels, *[kernel] * rank, device=DEVICE, dtype=dtype)
    conv, forwards, both = CONV[rank], {}, {}
    for name, layout in (("contiguous", torch.contiguous_format), ("channels-last", LAST[rank])):
        pictures, full = x.to(memory_format=layout), weight.to(memory_format=layout).requires_grad_()
        forwards[name] = lambda pictures=pictures, full=full: conv(pictures, full, None, stride, padding)
        both[name] = step(lambda x, full=full: conv(x, full, None, stride, padding), pictures, [full])
    for kind in KINDS[rank]:
        own = layer(rank, channels, kernel, kind, deep, dtype, stride)
        check(own, pictures, numbers)
        forwards[kind] = lambda own=own: own(pictures)
        both[kind] = step(own, pictures, [own.weight])
    products = batch * channels**2 * kernel**rank * (size // stride) ** rank
    rows = []
    for what, calls, passes in (("forward", forwards, 1), ("+ backward", both, 3)):
        with torch.set_grad_enabled(passes > 1):
            times = in_turns({name: captured(call) for name, call in calls.items()})
        rival = min(("contiguous", "channels-last"), key=times.milliseconds)
        share = passes * products / (times.milliseconds(rival) / 1e3) / best
        label = f"{batch}, {channels}, {size}{', deep' if deep else ''}{f', {kernel}x{kernel}' if kernel != 3 else ''}"
        label += f", stride {stride}" if stride > 1 else ""
        ratios = [times.ratio(kind, rival) for kind in KINDS[rank]]
        wider = ((kernel + stride - 1) / kernel) ** rank  # filters on two grids, where sizes are even
        shares = [share * wider / ratio / 2 ** len(kind) for kind, ratio in zip(KINDS[rank], ratios, strict=True)]
        cells = [f"{ratio:.2f} ({part:.0%})" for ratio, part in zip(ratios, shares, strict=True)]
        rows.append([numbers, label, what, f"{times.milliseconds(rival):.2f} ms {rival} ({share:.0%})", *cells])
        print(*rows[-1], sep=" | ", flush=True)
    return rows


def header(rank: int) -> list[str]:
    """Columns of the tables of layers, in the order in which `compare` fills them."""
    return ["", "batch, channels, size", "", "cuDNN (share of the peak)", *KINDS[rank]]


def layers(asked: list[str]) -> str:
    """Layers with 3x3 and 1x1 filters, lifting and deep."""
    rows = []
    for numbers in asked:
        with multiplying(numbers):
            best = peak(numbers)
            for shape in SHAPES:
                rows += [row for deep in (False, True) for row in compare(2, shape, 3, deep, numbers, best)]
            rows += compare(2, SHAPES[1], 1, True, numbers, best)
            rows += compare(2, SHAPES[1], 3, True, numbers, best, stride=2)
    return table(header(2), rows)


def volumes(asked: list[str]) -> str:
    """Three dimensions, 3x3x3, lifting and deep."""
    rows = []
    for numbers in asked:
        with multiplying(numbers):
            best = peak(numbers)
            for shape in VOLUMES:
                rows += [row for deep in (False, True) for row in compare(3, shape, 3, deep, numbers, best)]
    return table(header(3), rows)


def on_the_kernels(net: nn.Module, x: Tensor) -> int:
    """Sets `algorithm='triton'` wherever it can answer; says for how many layers."""
    able = []

    def ask(module: nn.Module, seen: tuple) -> None:
        module.algorithm = "triton"
        if "is refused" in why_not(module, seen[0]):
            module.algorithm = "reference"
        else:
            able.append(module)

    kinds = (ours.SymmetricConv1d, ours.SymmetricConv2d, ours.SymmetricConv3d)
    hooks = [module.register_forward_pre_hook(ask) for module in net.modules() if isinstance(module, kinds)]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    return len(able)


def loss(y: object) -> Tensor:
    """Something to differentiate, of whatever a network gives."""
    return getattr(y, "logits", y).float().square().mean()


def networks(asked: list[str]) -> str:
    """Whole networks of equal channels, a training step in bf16, compiled: the twin against the plain network."""
    from monai.networks.nets import BasicUNet  # not earlier: layers are measured where these are not installed
    from transformers import ResNetConfig, ResNetForImageClassification

    cases = {
        "ResNet-50, 128 x 3 x 224 x 224": (
            lambda: ResNetForImageClassification(ResNetConfig(num_labels=1000)), (128, 3, 224, 224), ("h", "hv"),
        ),
        "3-D BasicUNet, 2 x 1 x 96 x 96 x 96": (
            lambda: BasicUNet(3, 1, 2, (32, 32, 64, 128, 256, 32)), (2, 1, 96, 96, 96), ("hvz",),
        ),
    }  # fmt: skip
    rows = []
    for name, (make, shape, kinds) in cases.items():
        plain, last = make(), LAST[len(shape) - 2]
        x = torch.randn(shape)
        candidates: dict[str, Call] = {}
        able = {}
        for kind in ("", *kinds):
            net = equivariant(plain, kind, example=x[:1], measure=False) if kind else copy.deepcopy(plain)
            net = net.to(DEVICE, torch.bfloat16).to(memory_format=last).train()
            seen = x.to(DEVICE, torch.bfloat16).to(memory_format=last)
            able[kind or "plain"] = on_the_kernels(net, seen) if kind else 0
            compiled = torch.compile(net)

            def train(net=compiled, seen=seen) -> None:
                net.zero_grad(set_to_none=True)
                loss(net(seen)).backward()

            candidates[kind or "plain"] = train
        times = in_turns(candidates)
        for label in candidates:
            ratio = f"{times.ratio(label, 'plain'):.2f}"
            rows.append([name, label, str(able[label]), f"{times.milliseconds(label):.1f} ms", ratio])
    return table(["network", "", "layers on the kernels", "a training step", "to the plain network"], rows)


PARTS = {"layers": layers, "volumes": volumes, "networks": networks}


def main() -> None:
    """Prints everything, or the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--numbers", nargs="+", choices=NUMBERS, default=list(NUMBERS))
    parser.add_argument("--write", action="store_true", help="also write the tables into the kernels' README")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print("No GPU here: there is nothing to measure. Run this where `torch.cuda.is_available()`.")
        return
    torch.cuda.set_stream(torch.cuda.Stream())  # graphs are not captured on the default one
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    card = f"{torch.cuda.get_device_name()}, {machine()}, PyTorch {torch.__version__}"
    parts = [
        f"{card}, medians. In brackets: products that are made, as a share of those of a product of matrices of "
        "8192 x 8192. `python benchmarks/gpu_folding.py --write` writes this."
    ]
    print(parts[0] + "\n")
    for part in asked.only:
        parts.append(f"{PARTS[part].__doc__}\n\n{PARTS[part](asked.numbers)}\n")
        print(parts[-1], flush=True)
    if asked.write:
        put(README, "gpu", "\n\n".join(parts))


if __name__ == "__main__":
    main()
