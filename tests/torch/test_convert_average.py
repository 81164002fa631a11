"""Wider networks, and networks that start as the mirror average of a trained one."""

from fractions import Fraction

import pytest
import torch
from networks_torch import BlockNet, ResNet, UNet
from test_convert_networks import NETWORKS, answers, one_thread, randomise, weights
from torch import nn

from symmetric_layers import SymmetryError
from symmetric_layers.torch import assert_equivariant, equivariant

__all__ = ["one_thread"]  # a fixture of every test here too


def average(model, x, axes):
    """The answers of a model, averaged over all mirrored inputs, maps mirrored back."""
    rank = x.dim() - 2
    total = None
    for number in range(2 ** len(axes)):
        flipped = [{"h": -1, "v": -2, "z": -3}[letter] for bit, letter in enumerate(axes) if number >> bit & 1]
        found = [a.flip(flipped) if a.dim() >= rank + 2 else a for a in answers(model, x.flip(flipped))]
        total = found if total is None else [t + f for t, f in zip(total, found, strict=True)]
    return [t / 2 ** len(axes) for t in total]


AVERAGED = [
    "blocks in 1-D", "BasicUNet", "DynUNet", "DynUNet, 3-D", "DenseNet121", "ResNet", "ResNet, bottleneck",
    "MobileNetV2",
]  # fmt: skip


@pytest.mark.parametrize("name", AVERAGED)
def test_a_network_starts_as_the_mirror_average_of_a_trained_one(name, tolerance):
    build, axes, sizes = NETWORKS[name]
    model = randomise(build().double()).eval()
    new = equivariant(
        model, axes, example=torch.randn(1, *sizes[0]), width=2 ** len(axes), init="average", measure=False
    )
    assert type(new) is type(model)
    x = torch.randn(1, *sizes[-1], dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    for expected, answer in zip(average(model, x, axes), answers(new, x), strict=True):
        assert (expected - answer).abs().max() <= tolerance["float64"] * expected.abs().max()
    apart = zip(answers(model, x), answers(new, x), strict=True)
    assert max(float((one - other).abs().max() / other.abs().max()) for one, other in apart) > 1e-4


def test_where_no_width_holds_the_average_that_is_said():
    model = randomise(ResNet())
    with pytest.raises(SymmetryError, match=r"^width: 1 has no room for the average over the mirrors of 'hv'"):
        equivariant(model, "hv", example=torch.randn(1, 3, 9, 12), init="average")
    with pytest.raises(SymmetryError, match=r"^init: 'average' is off by .* no norm over several channels"):
        equivariant(model, "hv", example=torch.randn(1, 3, 9, 12), width=4, init="average")
    with pytest.raises(SymmetryError, match=r"^init: 'mean' is no choice here. Expected 'own' or 'average'"):
        equivariant(model, "hv", example=torch.randn(1, 3, 9, 12), init="mean")


@pytest.mark.parametrize(("build", "axes", "size"), [(UNet, "hv", (1, 8, 12)), (BlockNet, "h", (4, 30))])
@pytest.mark.parametrize("width", [2, 3])
def test_a_wider_network_has_weights_by_the_square_of_its_width(build, axes, size, width):
    torch.manual_seed(0)
    model = build()
    new = equivariant(model, axes, example=torch.randn(1, *size), width=width)
    assert weights(new) <= weights(model) * width**2 / 2 ** len(axes)
    assert weights(new) >= weights(model) * width / 2 ** len(axes)
    modules = dict(new.named_modules())
    for name, old in model.named_modules():
        if isinstance(old, nn.Conv2d):
            assert modules[name].weight.std() > 0.1 * old.weight.std() / width


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("U-Net", "h"),
        ("U-Net", "hv"),
        ("DynUNet, 3-D", "hvz"),
        ("DynUNet, 3-D", "z"),
        ("ResNet", "v"),
        ("residual", "h"),
    ],
)
@pytest.mark.parametrize("inplace", [False, True])
def test_about_as_many_weights_as_before(name, axes, inplace, tolerance):
    build, _, sizes = NETWORKS[name]
    model, sentences = build(), []
    before = parameters(model)
    more = {"example": torch.randn(1, *sizes[0]), "report": sentences.append, "inplace": inplace}
    new = equivariant(model, axes, width="parameters", **more)
    assert 0.75 < parameters(new) / before < 1.3
    assert sentences[-1].endswith(f" times as many channels: {parameters(new)} parameters, and {before} before.")
    assert_equivariant(new.double(), torch.randn(2, *sizes[-1]).double(), axes, tolerance=tolerance["float64"])


@pytest.mark.parametrize("axes", ["h", "v", "hv", "hz", "hvz"])
@pytest.mark.parametrize("channels", [6, 8, 10, 12])
def test_no_other_width_comes_nearer(axes, channels):
    def build(width=1):
        many = int(channels * width)
        return nn.Sequential(
            nn.Conv3d(1, many, 3), nn.BatchNorm3d(many), nn.Conv3d(many, many, 3), nn.Conv3d(many, 2, 1)
        )

    example = torch.randn(1, 1, 7, 8, 9)
    new = equivariant(build(), axes, example=example, width="parameters", measure=False)
    size = 2 ** len(axes)
    wider = [
        equivariant(build(Fraction(many, channels)), axes, example=example, measure=False)
        for many in range(size, size * channels + 1, size)
    ]
    wanted = parameters(build())
    assert abs(parameters(new) - wanted) == min(abs(parameters(other) - wanted) for other in wider)


def test_groups_that_would_be_torn_apart_are_no_choice():
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3), nn.GroupNorm(3, 12), nn.ReLU(), nn.Conv2d(12, 12, 3), nn.Conv2d(12, 2, 1)
    )
    new = equivariant(model, "hv", example=torch.randn(1, 1, 9, 9), width="parameters")
    assert new[0].out_channels == new[1].num_channels == 24


def test_a_width_makes_whole_orbits_of_odd_numbers_and_has_its_limits():
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.InstanceNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1))
    new = equivariant(model, "hv", example=torch.randn(1, 1, 9, 9), width=2)
    assert new[0].out_channels == new[1].num_features == new[3].in_channels == 12
    with pytest.raises(SymmetryError, match=r"^width: 0 is no usable count"):
        equivariant(model, "hv", example=torch.randn(1, 1, 9, 9), width=0)
    build, axes, sizes = NETWORKS["ConvNeXt"]
    with pytest.raises(SymmetryError, match=r"^width: 2 makes other channels than the model's own code expects"):
        equivariant(build(), axes, example=torch.randn(1, *sizes[0]), width=2)
