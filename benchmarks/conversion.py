"""What converting whole networks takes: `python benchmarks/conversion.py [--write]`.

Converting follows the example and rebuilds the layers; measuring asks the law of the result in float64, in both modes.
"""

import argparse
import pathlib
from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from clock import machine, put, table
from monai.networks.nets import DynUNet
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification

from symmetric_layers.torch import equivariant

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "equivariant.md"


def nnunet() -> nn.Module:
    """nnU-Net's largest shape: six stages, from 32 to 320 channels."""
    return DynUNet(3, 1, 3, [3] * 6, [1, 2, 2, 2, 2, 2], [2] * 5, deep_supervision=True, deep_supr_num=3)


def resnet() -> nn.Module:
    """ResNet-50."""
    return ResNetForImageClassification(ResNetConfig())


NETWORKS: list[tuple[str, Callable[[], nn.Module], str, tuple[int, ...]]] = [
    ("3-D nnU-Net (MONAI DynUNet)", nnunet, "hvz", (1, 1, 32, 32, 64)),
    ("3-D nnU-Net (MONAI DynUNet)", nnunet, "hvz", (1, 1, 64, 64, 64)),
    ("ResNet-50 (Hugging Face)", resnet, "h", (1, 3, 224, 224)),
    ("ResNet-50 (Hugging Face)", resnet, "hv", (1, 3, 224, 224)),
]


def seconds(model: nn.Module, axes: str, example: Tensor, measure: bool, rounds: int) -> float:
    """The median time of a conversion."""
    times = []
    for _ in range(rounds):
        start = perf_counter()
        equivariant(model, axes, example=example, measure=measure)
        times.append(perf_counter() - start)
    return median(times)


def row(name: str, build: Callable[[], nn.Module], axes: str, shape: tuple[int, ...], rounds: int) -> list[str]:
    """One network: its weights, and the times without measuring and with it."""
    torch.manual_seed(0)
    model, example = build(), torch.randn(shape)
    weights = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    times = [seconds(model, axes, example, measure, rounds) for measure in (False, True)]
    size = " x ".join(map(str, shape))
    return [name, axes, size, f"{weights:.1f} M", *(f"{time:.2f} s" for time in times)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="also write the table into docs/equivariant.md")
    asked = parser.parse_args()
    rows = [row(*network, asked.rounds) for network in NETWORKS]
    header = ["network", "axes", "example", "weights", "`measure=False`", "with the measurement"]
    text = f"{machine()}, {torch.get_num_threads()} threads.\n\n{table(header, rows)}"
    print(text)
    if asked.write:
        put(PAGE, "conversion", text)
