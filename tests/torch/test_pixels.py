"""Channels that become pixels, and pixels that become channels: the law, alone and in converted networks."""

import copy

import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symmetric_layers import SymmetryError
from symmetric_layers.torch import (
    OrbitPixelShuffle,
    OrbitPixelUnshuffle,
    SymmetricConv2d,
    desymmetrize,
    equivariance_error,
    equivariant,
)

DIM = {"h": -1, "v": -2}


def seen(x, arrangement, letter):
    """A picture in the mirror, its channels exchanged with theirs by somebody who asks a layer's plan."""
    turned = x.flip(DIM[letter])
    if arrangement is None:
        return turned
    plan = SymmetricConv2d(1, x.shape[1], 1, symmetry=arrangement).plan
    return turned[:, list(plan.exchange(letter))]


CASES = {  # channels with pixels, how they are arranged, letters of plain ones, how the others are arranged
    "h": (4, {"h": 4}, None, {"h": 4}),
    "hv": (8, {"hv": 8}, None, {"hv": 8}),
    "several": (16, {"h": 4, "v": 4, "hv": 8}, None, {"h": 4, "v": 4, "hv": 8}),
    "plain, h": (3, None, "h", {"h": 3}),
    "plain, v": (1, None, "v", {"v": 1}),
    "plain, hv": (3, None, "hv", {"hv": 3}),
}


FACTORS = [(name, factor) for name, case in CASES.items() for factor in ((2, 4) if case[2] else (2, 3))]


@pytest.mark.parametrize(("name", "factor"), FACTORS)
def test_pixels_mirror_with_their_picture(name, factor):
    channels, symmetry, axes, fine = CASES[name]
    torn = {kind: count * factor**2 for kind, count in fine.items()}
    letters = {letter for kind in fine for letter in kind}
    if symmetry and len(symmetry) > 1:
        letters = {"h", "v"} if set(symmetry) == {"hv"} else set()  # a letter that not all kinds have is checked below
    x = torch.randn(2, channels * factor**2, 3, 4)
    up = OrbitPixelShuffle(factor, symmetry, axes=axes)
    down = OrbitPixelUnshuffle(factor, symmetry, axes=axes)
    assert up(x).shape == F.pixel_shuffle(x, factor).shape
    assert torch.equal(down(up(x)), x)
    assert {*up(x).flatten().tolist()} == {*x.flatten().tolist()}
    for letter in letters:
        assert torch.equal(up(seen(x, torn, letter)), seen(up(x), symmetry, letter))
        picture = up(x)
        assert torch.equal(down(seen(picture, symmetry, letter)), seen(down(picture), torn, letter))


@pytest.mark.parametrize(("kind", "letter"), [("h", "h"), ("v", "v"), ("hv", "h"), ("hv", "v")])
def test_each_kind_of_a_mixed_bank_mirrors_along_its_letters(kind, letter):
    symmetry = {"h": 4, "v": 4, "hv": 8}
    up, x = OrbitPixelShuffle(2, symmetry), torch.randn(1, 64, 3, 4)
    torn = {name: 4 * count for name, count in symmetry.items()}
    plan = SymmetricConv2d(1, 16, 1, symmetry=symmetry).plan
    block = next(block for block in plan.blocks if block.kind == kind)
    chosen = slice(block.filter, block.filter + block.filters)
    found, expected = up(seen(x, torn, letter)), seen(up(x), symmetry, letter)
    assert torch.equal(found[:, chosen], expected[:, chosen])


def residual(channels):
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1), nn.PReLU(), nn.Conv2d(channels, channels, 3, padding=1)
    )


class SuperResolution(nn.Module):
    """As everybody writes it: features, twice as many pixels, colours."""

    def __init__(self):
        super().__init__()
        self.first, self.body = nn.Conv2d(3, 8, 5, padding=2), residual(8)
        self.up = nn.Sequential(nn.Conv2d(8, 32, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(8))
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        x = self.first(x)
        return self.last(self.up(x + self.body(x)))


NETWORKS = {
    "features": (SuperResolution(), "hv", (3, 5, 6)),
    "colours": (nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Conv2d(8, 12, 3), nn.PixelShuffle(2)), "hv", (3, 7, 8)),
    "by three": (
        nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 36, 1), nn.PixelShuffle(3), nn.ReLU(), nn.Conv2d(4, 2, 1)), "h",
        (1, 5, 6),
    ),
    "focus": (
        nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1)), "hv",
        (3, 8, 6),
    ),
    "down and up": (
        nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.PixelUnshuffle(2), nn.Conv2d(16, 16, 3, padding=1), nn.PixelShuffle(2),
            nn.Conv2d(4, 2, 1),
        ), "hv", (3, 8, 6),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_with_pixels_are_converted_and_written_out(name):
    model, axes, shape = NETWORKS[name]
    x = torch.randn(2, *shape)
    twin = equivariant(model, axes, example=x)
    assert {type(m) for m in twin.modules()} & {OrbitPixelShuffle, OrbitPixelUnshuffle}
    probe = copy.deepcopy(twin).double()
    larger = torch.randn(1, shape[0], shape[1] + 2, shape[2] + 4, dtype=torch.float64)
    for picture in (x.double(), larger):
        assert max(row.relative for row in equivariance_error(probe, picture, axes)) < 1e-12
    plain = desymmetrize(twin.eval(), x)
    torch.testing.assert_close(plain(x), twin(x))
    assert not [module for module in plain.modules() if type(module).__module__.startswith("symmetric_layers")]
    if name == "down and up":
        torch.testing.assert_close(torch.compile(twin, backend="aot_eager", fullgraph=True)(x), twin(x))
    if name in ("colours", "focus"):
        with pytest.raises(SymmetryError, match=r"the pixels of '\d' are plain channels, as many at every width"):
            equivariant(model, axes, example=x, width=2)
    else:
        assert equivariant(model, axes, example=x, width=2)(x).shape == model(x).shape


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_network_with_pixels_runs_in_onnx_runtime(tmp_path):
    model, axes, shape = NETWORKS["features"]
    x = torch.randn(1, *shape)
    twin = equivariant(model, axes, example=x).eval()
    torch.onnx.export(twin, (x,), tmp_path / "net.onnx", dynamo=True)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), twin(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (
            lambda: OrbitPixelShuffle(3, axes="h"),
            "factor: 3 by 3 pixels have a middle one, which is its own mirror image. Expected an even number where "
            "channels are no orbits. Use one, or channels that are orbits.",
        ),
        (
            lambda: OrbitPixelShuffle(2, {"h": 4})(torch.randn(1, 8, 3, 3)),
            "symmetry: 'h': 4 does not fit 2 filters. Expected a multiple of 2 (the size of one 'h' orbit), at most 2. "
            "Use such a number, or a percentage, which rounds down to whole orbits.",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(ask, expected):
    with pytest.raises(SymmetryError) as refused:
        ask()
    assert str(refused.value) == expected
