"""One picture without N, `(C, *positions)`: answered as the host answers it wherever the operator says its rank."""

import pytest
import torch
from torch import nn

from symmetric_layers.torch import (
    GlobalConv1d,
    Mirrored,
    MirrorMean,
    OrbitInstanceNorm1d,
    OrbitInstanceNorm2d,
    OrbitInstanceNorm3d,
    OrbitPixelShuffle,
    OrbitPixelUnshuffle,
    equivariant,
)

OPERATORS = {
    "largest": (nn.MaxPool2d(3, 2, 1), 2),
    "largest, ceil": (nn.MaxPool2d(2, ceil_mode=True), 2),
    "largest of rows": (nn.MaxPool1d(2), 1),
    "largest in volumes": (nn.MaxPool3d(2), 3),
    "mean": (nn.AvgPool2d(2), 2),
    "power mean": (nn.LPPool2d(2, 2), 2),
    "adaptive": (nn.AdaptiveAvgPool2d(3), 2),
    "adaptive, largest": (nn.AdaptiveMaxPool1d(3), 1),
    "zeros": (nn.ZeroPad2d((0, 1, 0, 1)), 2),
    "reflected": (nn.ReflectionPad1d((0, 2)), 1),
    "repeated": (nn.ReplicationPad3d((0, 1, 0, 1, 0, 0)), 3),
    "padded, then pooled": (nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2)), 2),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_operator_that_says_its_rank_takes_one_picture(name, dtype):
    operator, rank = OPERATORS[name]
    layer = Mirrored(operator, {"h": 2, "hv": 4} if rank > 1 else {"h": 4})
    x = torch.randn(7, *(8, 7, 6)[:rank], dtype=dtype, generator=torch.Generator().manual_seed(0))
    answer = layer(x)
    assert torch.equal(answer, layer(x[None])[0])
    first = [0, 6]  # members that no letter mirrors are what the host gives
    assert torch.equal(answer[first], operator(x)[first])


@pytest.mark.parametrize("name", ["rows, nearest", "a function"])
def test_what_says_no_rank_reads_the_first_axis_as_n(name):
    operator = {"rows, nearest": nn.Upsample(scale_factor=1.5), "a function": lambda x: x[..., ::2]}[name]
    layer, x = Mirrored(operator, {"h": 4}), torch.randn(3, 4, 7)
    assert torch.equal(layer(x)[1:2], layer(x[1:2]))
    assert torch.equal(layer(x)[:, ::2], operator(x)[:, ::2])


@pytest.mark.parametrize("kind", ["h", "hv"])
def test_a_converted_network_takes_one_picture(kind):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.ZeroPad2d((0, 1, 0, 1)),
        nn.Conv2d(16, 4, 1),
    )
    twin = equivariant(network, kind, example=torch.randn(1, 3, 32, 32)).eval().double()
    for sizes in ((32, 33), (16, 16)):
        x = torch.randn(3, *sizes, dtype=torch.float64)
        torch.testing.assert_close(twin(x), twin(x[None])[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("positions", [1, 2, 3])
def test_a_mean_that_is_told_how_many_positions_there_are_takes_one_picture(positions):
    x = torch.randn(4, *(5, 6, 7)[:positions])
    host = getattr(nn, f"AdaptiveAvgPool{positions}d")(1)
    for given in (x, x[None]):
        mean = MirrorMean(positions)(given)
        assert mean.shape == host(given).shape
        torch.testing.assert_close(mean, host(given))
    assert torch.equal(MirrorMean()(x[None]), MirrorMean(positions)(x[None]))


@pytest.mark.parametrize(
    ("rank", "sort"), [(1, OrbitInstanceNorm1d), (2, OrbitInstanceNorm2d), (3, OrbitInstanceNorm3d)]
)
def test_instance_norm_takes_one_picture_and_refuses_what_is_none_as_the_host_does(rank, sort):
    layer, host = sort(4, symmetry={"h": 4}), getattr(nn, f"InstanceNorm{rank}d")(4)
    x = torch.randn(4, *[5] * rank)
    torch.testing.assert_close(layer(x), host(x))
    for axes in (rank, rank + 3):
        with pytest.raises(ValueError, match="expected") as refusal:
            layer(torch.randn([4] * axes))
        with pytest.raises(ValueError, match="expected") as its:
            host(torch.randn([4] * axes))
        assert str(refusal.value) == str(its.value)


def test_pixels_take_one_picture():
    x = torch.randn(16, 4, 6)
    for layer in (OrbitPixelShuffle(2, {"h": 4}), OrbitPixelUnshuffle(2, {"h": 16})):
        assert torch.equal(layer(x), layer(x[None])[0])


def test_a_global_convolution_takes_one_set_and_its_mask():
    layer, x = GlobalConv1d(3, 4), torch.randn(3, 3)
    torch.testing.assert_close(layer(x), layer(x[None])[0])
    mask = torch.tensor([True, False, True])
    torch.testing.assert_close(layer(x, mask), layer(x[None], mask[None])[0])
