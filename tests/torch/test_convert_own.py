"""Convolutions with a `forward` of their own: filters that are standardised, padding that is made up."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symmetric_layers import SymmetryError
from symmetric_layers.torch import desymmetrize, equivariance_error, equivariant


class Standardised(nn.Conv2d):
    """BiT's."""

    def forward(self, x):
        weight = self.weight
        var, mean = torch.var_mean(weight, dim=[1, 2, 3], keepdim=True, unbiased=False)
        weight = (weight - mean) / torch.sqrt(var + 1e-10)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Scaled(nn.Conv2d):
    """NFNet's, with a gain for every filter, and a buffer."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.rand(self.out_channels, 1, 1, 1) + 0.5)
        self.register_buffer("shift", torch.rand(self.out_channels))

    def forward(self, x):
        mean, fan = self.weight.mean((1, 2, 3), keepdim=True), self.weight[0].numel()
        weight = (self.weight - mean) * fan**-0.5 * self.gain
        return F.conv2d(x, weight, self.bias + self.shift, self.stride, self.padding, self.dilation, self.groups)


class Same(nn.Conv2d):
    """TensorFlow's padding: more after than before."""

    def forward(self, x):
        pads = []
        for n, k, s in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-n // s) - 1) * s + k - n, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class TransposedSame(nn.ConvTranspose2d):
    """Something else again."""

    def forward(self, x):
        return super().forward(x)[:, :, 1:-1, 1:-1]


def network(conv, **more):
    layers = [conv(3, 8, 3, padding=1), nn.ReLU(), conv(8, 16, 3, 2, 1, **more), nn.ReLU(), conv(16, 8, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(8, 2, 1))


PICTURE = torch.randn(2, 3, 8, 9)


@pytest.mark.parametrize(
    ("conv", "axes", "more"),
    [
        (Standardised, "hv", {}),
        (Standardised, "h", {"groups": 2}),
        (Scaled, "hv", {"groups": 2}),
        (Scaled, "h", {}),
        (Same, "hv", {"bias": False}),
        (Same, "h", {"groups": 2}),
    ],
)
def test_they_are_given_mirrored_filters_and_go_on_as_they_were_written(conv, axes, more):
    model = network(conv, **more)
    twin = equivariant(model, axes, example=PICTURE)
    assert twin[2].conv.weight.shape[0] == 16 // 2 ** len(axes)
    for sizes in ((8, 9), (9, 8), (7, 7)):
        x = torch.randn(1, 3, *sizes, dtype=torch.float64)
        found = equivariance_error(copy.deepcopy(twin).double(), x, axes)
        assert max(row.relative for row in found) < 1e-12
    first = model[0](PICTURE)[:, 0]
    torch.testing.assert_close(twin[0](PICTURE)[:, 0], first)  # the first filter of an orbit is what it was


@pytest.mark.parametrize("conv", [Standardised, Scaled, Same])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_ones_too(conv, stride):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), conv(8, 8, 3, stride, 1, groups=8), nn.ELU(), nn.Conv2d(8, 2, 1))
    twin = equivariant(model, "hv", example=PICTURE)
    assert twin[1].conv.weight.shape == (2, 1, 3, 3)
    for sizes in ((8, 9), (9, 8), (7, 7)):
        x = torch.randn(1, 3, *sizes, dtype=torch.float64)
        assert max(row.relative for row in equivariance_error(copy.deepcopy(twin).double(), x, "hv")) < 1e-12


def test_they_are_saved_copied_trained_compiled_and_told_to_an_optimizer():
    model = network(Scaled)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    twin = equivariant(model, "h", example=PICTURE, optimizer=optimizer)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in twin.parameters()}
    assert twin[2].conv.gain.shape == (8, 1, 1, 1)
    twin(PICTURE).square().sum().backward()
    assert all(parameter.grad is not None for parameter in twin.parameters())
    optimizer.step()
    twin.eval()
    file = io.BytesIO()
    torch.save(twin, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(PICTURE), twin(PICTURE))
    torch.testing.assert_close(torch.compile(twin, backend="aot_eager", fullgraph=True)(PICTURE), twin(PICTURE))


def test_the_way_back_where_no_grid_is_mirrored():
    twin = equivariant(nn.Sequential(Scaled(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1)), "hv", example=PICTURE).eval()
    plain = desymmetrize(twin)
    assert type(plain[0]) is Scaled
    torch.testing.assert_close(plain(PICTURE), twin(PICTURE))


@pytest.mark.parametrize(("conv", "sizes"), [(Standardised, (7, 9)), (Scaled, (7, 9)), (Same, (9, 7))])
def test_the_way_back_with_strides_where_grids_agree(conv, sizes):
    twin = equivariant(network(conv), "hv", example=PICTURE).eval()
    told = []
    plain = desymmetrize(twin, torch.randn(2, 3, *sizes), report=told.append)
    assert [type(layer) for layer in plain] == [conv, nn.ReLU, conv, nn.ReLU, conv, nn.ReLU, nn.Conv2d]
    assert told == ["Mirrored grids at '2' (1 modulo 2): right where sizes leave these remainders, as in the example."]
    x = torch.randn(1, 3, sizes[0] + 4, sizes[1] + 2)
    torch.testing.assert_close(plain(x), twin(x))
    with pytest.raises(
        SymmetryError,
        match=rf"^model: '2', a {conv.__name__} with strides, has no ordinary form for pictures of \(8, 9\), which its "
        "mirrors sample elsewhere. Expected sizes at which they do not. Pass an example of another size, or take the "
        "layer out of the part that is converted.$",
    ):
        desymmetrize(twin, PICTURE)
    with pytest.raises(SymmetryError, match=r"^example: None does not say for which sizes '2', which has a mirrored"):
        desymmetrize(twin)


@pytest.mark.parametrize(
    ("model", "how"),
    [
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), Same(8, 2, 1)), {}),
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), TransposedSame(8, 8, 3), nn.Conv2d(8, 2, 1)), {}),
        (network(Same), {"width": 2}),
    ],
    ids=["the last one", "transposed", "wider"],
)
def test_what_would_need_other_code_is_refused(model, how):
    with pytest.raises(SymmetryError, match="Same, which computes something of its own"):
        equivariant(model, "h", example=PICTURE, **how)
