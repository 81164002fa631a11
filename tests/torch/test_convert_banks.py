"""Whole models: mirrored filter banks dropped in, and back to ordinary layers."""

import copy
import itertools
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import symmetric_layers.torch as layers
from symmetric_layers import SymmetryError
from symmetric_layers.torch.convert import desymmetrize, symmetrize

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
HV = {"hv": 8}


def picture(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Everything(nn.Module):
    """Convolutions with arguments that are nowhere the default, a shared one, tied weights."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(4, 16, (3, 5), (2, 1), (1, 2), (1, 2), 2, False, "reflect")
        self.up = nn.ConvTranspose2d(16, 8, 3, 2, 1, 1, 2, True, 2)
        self.same = nn.Conv2d(8, 8, 4, padding="same")
        self.twin = nn.Conv2d(8, 8, 4, padding="same")
        self.twin.weight = self.same.weight
        self.again = self.same
        self.norm = nn.BatchNorm2d(8)
        self.line = nn.Conv1d(8, 6, 3)

    def forward(self, x):
        x = self.norm(self.again(self.twin(self.same(self.up(self.first(x))))))
        return self.line(x.mean(-2))


def test_every_convolution_gets_mirrored_banks_and_keeps_its_arguments():
    model = Everything().double().eval()
    model.same.requires_grad_(False)
    model.line.train()
    calls = []
    model.first.register_forward_hook(lambda *_: calls.append(1))
    sentences = []
    before = copy.deepcopy(model.state_dict())
    new = symmetrize(model, {"h": "50%"}, report=sentences.append)
    assert [type(module).__name__ for module in new.children()] == [
        "SymmetricConv2d", "SymmetricConvTranspose2d", "SymmetricConv2d", "SymmetricConv2d", "BatchNorm2d",
        "SymmetricConv1d",
    ]  # fmt: skip
    for name in ("first", "up", "same", "line"):
        old, made = getattr(model, name), getattr(new, name)
        for argument in ("stride", "padding", "dilation", "groups", "padding_mode", "output_padding", "kernel_size"):
            assert getattr(made, argument) == getattr(old, argument)
        assert made.training is old.training
        assert (made.bias is None) == (old.bias is None)
        assert made.weight.dtype is torch.float64
        assert made.weight.requires_grad is old.weight.requires_grad
        assert made.plan.counts == {"h": made.out_channels // 2 // 2 * 2}
    assert new.again is new.same
    assert new.twin.weight is new.same.weight
    assert torch.equal(new.first.full_weight()[0], model.first.weight[0])
    assert torch.equal(new.first.full_weight()[1], model.first.weight[0].flip(-1))
    assert sentences == ["'first': 1 hook went to the new layer."]
    new(picture(1, 4, 9, 11))
    assert calls == [1]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    pickle.loads(pickle.dumps(symmetrize(Everything(), {"h": "50%"})))


def test_a_layer_too_small_for_an_orbit_stays_free_without_a_warning():
    new = symmetrize(nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 1, 1)), {"hv": "50%"})
    assert new[0].plan.counts == {"hv": 8}
    assert new[1].plan.counts == {}


def test_the_root_itself_is_exchanged_and_where_chooses():
    assert isinstance(symmetrize(nn.Conv2d(1, 4, 3), {"h": 4}), layers.SymmetricConv2d)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1))
    new = symmetrize(model, {"h": 4}, where=lambda name, conv: conv.kernel_size != (1, 1), inplace=True)
    assert new is model
    assert type(new[0]) is layers.SymmetricConv2d
    assert type(new[1]) is nn.Conv2d


def test_an_optimizer_is_given_the_new_parameters():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))
    optimizer = torch.optim.Adam([{"params": model[0].parameters(), "lr": 0.5}, {"params": model[1:].parameters()}])
    model(torch.randn(2, 1, 5, 5)).sum().backward()
    optimizer.step()
    new = symmetrize(model, {"h": 4}, optimizer=optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.001]
    assert [id(p) for group in optimizer.param_groups for p in group["params"]] == [id(p) for p in new.parameters()]
    assert not optimizer.state
    before = new[0].weight.detach().clone()
    new(torch.randn(2, 1, 5, 5)).sum().backward()
    optimizer.step()
    assert not torch.equal(new[0].weight, before)


def mirrored_net(grid="mirrored"):
    """A network that meets every lopsided geometry there is an ordinary form for."""
    more = {"symmetry": HV, "grid": grid}
    return nn.Sequential(
        layers.SymmetricConv2d(3, 8, 7, 2, 3, **more),
        layers.OrbitBatchNorm2d(8, symmetry=HV),
        nn.ReLU(inplace=True),
        layers.Mirrored(nn.MaxPool2d(3, 2, 1), HV),
        layers.SymmetricConv2d(8, 8, 3, 2, 2, 2, in_symmetry=HV, padding_mode="circular", **more),
        layers.OrbitGroupNorm(2, 8, symmetry=HV),
        layers.SymmetricConv2d(8, 8, 4, padding="same", groups=8, in_symmetry=HV, **more),
        layers.SymmetricConvTranspose2d(8, 16, 3, 3, 1, 2, 2, dilation=2, symmetry={"hv": 16}, grid=grid),
        layers.Mirrored(nn.AvgPool2d(3, 2, 1), {"hv": 16}),
        layers.OrbitInstanceNorm2d(16, affine=True, symmetry={"hv": 16}),
        layers.InvariantConv2d(16, 3, 4, 3, 1, in_symmetry={"hv": 16}),
    )


def randomise(model):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) + 0.2)
    return model


@pytest.mark.parametrize("size", list(itertools.product((36, 37), (38, 39, 41))))
def test_back_to_ordinary_layers_the_answers_are_the_same(size, tolerance):
    model = randomise(mirrored_net().double()).eval()
    x = picture(2, 3, *size)
    plain = desymmetrize(model, x)
    assert not [module for module in plain.modules() if type(module).__module__.startswith("symmetric_layers")]
    with torch.no_grad():
        expected, answer = model(x), plain(x)
    assert expected.shape == answer.shape
    more = picture(1, 3, size[0] + 48, size[1] + 96)  # which leaves the same remainder in every layer
    with torch.no_grad():
        assert (model(more) - plain(more)).abs().max() <= tolerance["float64"] * model(more).abs().max()
    assert (expected - answer).abs().max() <= tolerance["float64"] * expected.abs().max()


def test_shared_grids_need_no_example(tolerance):
    model = symmetrize(Everything().double().eval(), {"h": "50%"})
    plain = desymmetrize(model)
    x = picture(1, 4, 9, 11)
    assert type(plain.first) is nn.Conv2d
    assert plain.again is plain.same
    assert plain.twin.weight is plain.same.weight
    assert (plain(x) - model(x)).abs().max() <= tolerance["float64"]
    head = nn.Sequential(layers.OrbitLinear(8, 2, in_symmetry=HV), layers.OrbitBatchNorm1d(2))
    assert [type(module) for module in desymmetrize(head)] == [nn.Linear, nn.BatchNorm1d]


MANY = {"h": 4, "hv": 8}
POOLS = [nn.MaxPool2d(k, s, p, ceil_mode=c) for k in (2, 3) for s in (2, 3) for p in (0, 1) for c in (True, False)]


@pytest.mark.parametrize("pool", [*POOLS, nn.MaxPool2d(2, 3, 0, 2, ceil_mode=False)], ids=str)
def test_pools_that_round_up_have_an_ordinary_form(pool):
    mirrored = layers.Mirrored(pool, MANY)
    for size in itertools.product((6, 7, 8), (9, 10, 11)):
        x = picture(2, 14, *size)
        plain = desymmetrize(nn.Sequential(mirrored), x).double()
        assert not [module for module in plain.modules() if isinstance(module, layers.Mirrored)]
        assert torch.equal(plain(x), mirrored(x))
        more = picture(1, 14, size[0] + 6, size[1] + 12)
        assert torch.equal(plain(more), mirrored(more))


@pytest.mark.parametrize(
    "pad",
    [
        nn.ZeroPad2d((0, 1, 0, 1)), nn.ConstantPad2d((2, 1, 0, 3), 0.5), nn.ReplicationPad2d((3, 1, 1, 1)),
        nn.ReflectionPad2d((0, 2, 1, 0)), nn.CircularPad2d((1, 2, 2, 1)),
    ],
    ids=str,
)  # fmt: skip
def test_one_sided_padding_has_an_ordinary_form_for_all_sizes(pad):
    mirrored = layers.Mirrored(pad, MANY)
    sentences = []
    plain = desymmetrize(nn.Sequential(mirrored), torch.randn(1, 14, 6, 7), report=sentences.append).double()
    assert sentences == []
    for size in ((6, 7), (9, 8)):
        assert torch.equal(plain(picture(2, 14, *size)), mirrored(picture(2, 14, *size)))
    with pytest.raises(SymmetryError, match="has no ordinary form for pictures of"):
        desymmetrize(layers.Mirrored(nn.ZeroPad2d((-1, 1, 0, 0)), MANY), torch.randn(1, 14, 6, 7))


@pytest.mark.parametrize("reduce", ["mean", "max"])
@pytest.mark.parametrize("symmetry", [{"hv": "100%"}, {"h": 2, "hv": 4}, {"h": 8}])
@pytest.mark.parametrize("sizes", [(), (5,), (5, 6), (3, 4, 5)])
def test_a_pool_over_orbits_has_an_ordinary_form(reduce, symmetry, sizes, tolerance):
    pool = layers.OrbitPool(symmetry, reduce=reduce).eval()
    x = picture(2, 8, *sizes)
    plain = desymmetrize(nn.Sequential(pool), x).double()
    assert [module for module in plain.modules() if type(module).__module__.startswith("symmetric_layers")] == []
    assert plain(x).shape == pool(x).shape
    assert (plain(x) - pool(x)).abs().max() <= tolerance["float64"]
    with pytest.raises(SymmetryError, match=r"^example: None does not say for which sizes '0', an OrbitPool, is to be"):
        desymmetrize(nn.Sequential(pool))


def test_the_sizes_of_a_mirrored_grid_are_said_and_asked_for():
    model = mirrored_net()
    with pytest.raises(SymmetryError, match=r"^example: None does not say for which sizes '0', which has a mirrored"):
        desymmetrize(model)
    sentences = []
    desymmetrize(model, torch.randn(2, 3, 40, 40), report=sentences.append)
    assert sentences == [
        "Mirrored grids at '0' (0 modulo 2), '3' (0 modulo 2), '4' (0 modulo 2), '8' (1 modulo 2), '10' (0 modulo 3): "
        "right where sizes leave these remainders, as in the example."
    ]
    twice = layers.SymmetricConv2d(8, 8, 1, 2, symmetry=HV, in_symmetry=HV, grid="mirrored")
    with pytest.raises(SymmetryError, match=r"^example: '0' sees pictures of sizes that leave different remainders"):
        desymmetrize(nn.Sequential(twice, twice), torch.randn(1, 8, 18, 18))
    with pytest.raises(SymmetryError, match="has no ordinary form for pictures of"):
        desymmetrize(layers.Mirrored(nn.AvgPool2d(2, ceil_mode=True), HV), torch.randn(1, 8, 7, 7))


def test_what_cannot_be_converted_is_refused_and_nothing_is_changed():
    with pytest.raises(SymmetryError, match=r"^model: no ordinary convolution is left in it"):
        symmetrize(nn.Linear(2, 2), {"h": "50%"})
    with pytest.raises(SymmetryError, match=r"^model: no ordinary convolution is left in it"):
        symmetrize(layers.SymmetricConv2d(1, 4, 3, symmetry={"h": 4}), {"h": "50%"})
    with pytest.raises(SymmetryError, match=r"^model: no layer of this package is in it"):
        desymmetrize(nn.Conv2d(1, 2, 3))
    with pytest.raises(SymmetryError, match=r"^model: 'function' is no module"):
        symmetrize(lambda x: x, {"h": "50%"})
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3))
    with pytest.raises(SymmetryError, match=r"^model: '0' cannot have this symmetry. symmetry: 'h': 6 does not fit 4"):
        symmetrize(model, {"h": 6}, inplace=True)
    with pytest.raises(SymmetryError, match=r"^model: '1' cannot have this symmetry. symmetry: 'hv': 4 does not fit"):
        symmetrize(nn.Sequential(model[0], nn.Conv2d(4, 2, 3)), {"hv": 4}, inplace=True)
    assert type(model[0]) is nn.Conv2d
    with pytest.raises(SymmetryError, match=r"^symmetry: 'x' is no kind of mirror"):
        symmetrize(model, {"x": 8})

    class Own(nn.Conv2d):
        def forward(self, input):
            return super().forward(input) + 1

    with pytest.raises(SymmetryError, match=r"^model: 'a' is a Own, which computes something of its own"):
        symmetrize(nn.Sequential().append(nn.Identity()) and nn.ModuleDict({"a": Own(1, 4, 3)}), {"h": 4})
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 4, 3)))
    assert parametrize.is_parametrized(normed[0])
    with pytest.raises(SymmetryError, match=r"^model: '0' derives its weight from something else"):
        symmetrize(normed, {"h": 4})
    with pytest.raises(SymmetryError, match=r"^model: '0' has no weight yet"):
        symmetrize(nn.Sequential(nn.LazyConv2d(4, 3)), {"h": 4})
