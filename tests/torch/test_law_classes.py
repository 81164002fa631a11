"""The law of answers whose channels and classes look like positions: what is exchanged there is no mirror image."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symmetric_layers import SymmetryError
from symmetric_layers.torch import (
    SymmetricConv1d,
    SymmetricConv2d,
    assert_equivariant,
    equivariance_error,
    equivariant,
)

PICTURE = torch.randn(2, 1, 8, 8, dtype=torch.float64)
LINE = torch.randn(2, 1, 9, dtype=torch.float64)


class Answers(nn.Module):
    """A body, and what a function makes of its map."""

    def __init__(self, body, function):
        super().__init__()
        self.body, self.function = body, function

    def forward(self, x):
        return self.function(self.body(x))


def pooled(y):
    return F.adaptive_avg_pool2d(y, 1)


ORBITS = {
    "pooled": pooled,
    "classes": lambda y: y.mean((2, 3)),
    "a row": lambda y: pooled(y).flatten(2),
    "in front": lambda y: pooled(y).flatten(2).transpose(1, 2),
    "in groups": lambda y: pooled(y).flatten(1).unflatten(1, (-1, 2)),
    "a map": lambda y: y,
    "a row of maps": lambda y: y.flatten(2),
    "beside rows": lambda y: y.mean(3),
}


@pytest.mark.parametrize("kind", ["h", "hv"])
@pytest.mark.parametrize("layout", ORBITS)
def test_channels_in_orbits_that_nobody_told_of_are_no_positions(layout, kind):
    conv = SymmetricConv2d(1, 8, 3, symmetry={kind: 8}, padding=1)
    small = nn.Sequential(nn.MaxPool2d((2, 4)), nn.MaxPool2d(2, 1), nn.AvgPool2d((3, 1)))  # maps 4 x 2, 3 x 1, 1 x 1
    model = Answers(nn.Sequential(conv, nn.ReLU()), ORBITS[layout]).double()
    seen = Answers(nn.Sequential(conv, nn.ReLU()), lambda y: (ORBITS[layout](y), small(y).mean(1, keepdim=True))[0])
    seen.small = small
    for network in (model, seen.double()):
        assert equivariance_error(network, PICTURE, "h")[0].relative > 1e-6
        with pytest.raises(AssertionError):
            assert_equivariant(network, PICTURE, "h")


@pytest.mark.parametrize(
    "layout", [lambda y: y, lambda y: y.mean(2), lambda y: y.mean(2, keepdim=True), lambda y: y.transpose(1, 2)]
)
@pytest.mark.parametrize("channels", [2, 8])
def test_nor_are_they_in_one_dimension(layout, channels):
    conv = SymmetricConv1d(1, channels, 3, symmetry={"h": channels})
    model = Answers(nn.Sequential(conv), layout).double()
    assert equivariance_error(model, LINE, "h")[0].relative > 1e-6


def sides(y):
    """What is seen on the left and on the right."""
    right = torch.linspace(0, 1, y.shape[-1], dtype=y.dtype)
    return y * (1 - right), y * right


def scores(y):
    return [side.flatten(2).mean(2) for side in sides(y)]


SIDES = {
    "left and right": lambda y: torch.stack(scores(y), 2).flatten(1)[..., None, None],
    "left, then right": lambda y: torch.cat(scores(y), 1)[..., None, None],
    "classes": lambda y: torch.stack(scores(y), 2).flatten(1),
    "a row": lambda y: torch.stack(scores(y), 2).flatten(1)[..., None],
    "a table": lambda y: torch.stack(scores(y), 2),
    "its other side": lambda y: torch.stack(scores(y), 1),
    "outside in": lambda y: torch.cat([scores(y)[0], scores(y)[1].flip(1)], 1)[..., None, None],
    "maps": lambda y: torch.cat(sides(y), 1),
    "maps in turn": lambda y: torch.stack(sides(y), 2).flatten(1, 2),
}


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("layout", SIDES)
def test_scores_of_sides_are_no_mirror_images(layout, classes):
    body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.MaxPool2d(2), nn.MaxPool2d(2), nn.Conv2d(8, classes, 1))
    with pytest.raises(SymmetryError, match="breaks the law"):  # maps of 2 x 2 were seen
        equivariant(Answers(body, SIDES[layout]), "h", example=PICTURE.float())


IN_LINES = {
    "channels": lambda y: torch.cat(sides(y), 1),
    "pairs": lambda y: torch.cat([one[..., None] for one in scores(y)], 1),
    "classes": lambda y: torch.cat(scores(y), 1),
    "behind": lambda y: torch.cat(sides(y), 1).transpose(1, 2),
}


@pytest.mark.parametrize("layout", IN_LINES)
@pytest.mark.parametrize("length", [2, 9])
def test_nor_are_they_in_lines(layout, length):
    body = nn.Sequential(nn.Conv1d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 1, 1))
    with pytest.raises(SymmetryError, match="breaks the law"):
        equivariant(Answers(body, IN_LINES[layout]), "h", example=LINE[..., :length].float())


class Plain(nn.Module):
    """Orbits in between, and a tilt that no mirror image has."""

    def __init__(self, channels):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, channels, 3, padding=1)
        self.tilt = False

    def forward(self, x):
        y = self.first(x)
        return self.last(y * torch.linspace(0, 1, y.shape[-1], dtype=y.dtype) if self.tilt else y)


@pytest.mark.parametrize(("channels", "axes"), [(1, "h"), (2, "h"), (2, "hv")])
def test_channels_that_make_no_orbit_are_held_to_the_law(channels, axes):
    model = Plain(channels)
    example = PICTURE.float()
    twin = equivariant(model, axes, example=example, answers="orbits").double()
    whole = {axes: "100%"}
    assert all(row.relative < 1e-12 for row in equivariance_error(twin, PICTURE, axes, symmetry=whole))
    model.tilt = twin.tilt = True
    assert equivariance_error(twin, PICTURE, axes, symmetry=whole)[0].relative > 1e-6
    with pytest.raises(SymmetryError, match="breaks the law"):
        equivariant(model, axes, example=example, answers="orbits")


def test_free_channels_beside_orbits_stay_free():
    layer = SymmetricConv2d(1, 6, 3, symmetry={"h": 4}, padding=1).double()
    assert equivariance_error(layer, PICTURE, "h")[0].relative < 1e-12


@pytest.mark.parametrize("sort", ["a map without channels", "tokens", "tokens behind", "pairs of tokens"])
def test_what_is_surely_a_map_is_mirrored(sort):
    functions = {
        "a map without channels": lambda y: y[:, 0],
        "tokens": lambda y: F.pad(y.flatten(2).transpose(1, 2), (0, 0, 1, 0)),
        "tokens behind": lambda y: F.pad(y.flatten(2), (0, 2)),
        "pairs of tokens": lambda y: y.flatten(2).transpose(1, 2) @ y.flatten(2),
    }
    body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.AvgPool2d((1, 2)), nn.ReLU())
    twin = equivariant(Answers(body, functions[sort]), "h", example=PICTURE.float()).double()
    assert_equivariant(twin, PICTURE, "h", tolerance=1e-12)
    with pytest.raises(SymmetryError, match="breaks the law"):  # eight rows of four are not four of eight
        equivariant(
            Answers(body, lambda y: functions[sort](y.transpose(2, 3).flatten(2).unflatten(2, (8, 4)))),
            "h",
            example=PICTURE.float(),
        )
