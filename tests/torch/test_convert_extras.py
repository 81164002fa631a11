"""What a layer holds beside its own numbers comes along: further buffers, parameters, modules, the order in memory."""

import io

import pytest
import torch
from torch import nn

from symmetric_layers import SymmetryError
from symmetric_layers.torch import OrbitBatchNorm2d, SymmetricConv2d, desymmetrize, equivariant
from symmetric_layers.torch.convert import symmetrize

H = {"h": 8}
PICTURE = torch.randn(2, 3, 9, 9)


def laden(layer):
    """With more than a layer has, and a hook that reads it."""
    layer.register_buffer("scale", torch.full((1,), 2.0))
    layer.register_buffer("shift", torch.ones(1), persistent=False)
    layer.gamma, layer.act = nn.Parameter(torch.full((1,), 0.5)), nn.PReLU()
    layer.register_forward_hook(lambda m, given, made: m.act(made) * m.scale * m.gamma + m.shift)
    return layer


def network():
    return nn.Sequential(laden(nn.Conv2d(3, 8, 3)), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))


CONVERSIONS = {
    "equivariant": lambda model, **more: equivariant(model, "h", example=PICTURE, **more),
    "symmetrize": lambda model, **more: symmetrize(model, {"h": "100%"}, **more),
    "nearest": lambda model, **more: symmetrize(model, {"h": "100%"}, init="nearest", example=PICTURE, **more),
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_what_hooks_read_comes_along_and_goes_back(name):
    model = network()
    before, optimizer, keys = model[0], torch.optim.SGD(model.parameters(), 0.1), model.state_dict().keys()
    new = CONVERSIONS[name](model, inplace=True, optimizer=optimizer).eval()
    assert {id(one) for group in optimizer.param_groups for one in group["params"]} == {*map(id, new.parameters())}
    assert {*new.state_dict().keys()} == {*keys}
    assert type(new[0]) is SymmetricConv2d
    assert new[0].gamma is before.gamma
    assert (new[0].act, new[0].scale) == (before.act, before.scale)
    laden(new[1])
    plain = desymmetrize(new)
    torch.testing.assert_close(plain(PICTURE), new(PICTURE))
    assert [type(layer) for layer in plain] == [nn.Conv2d, nn.BatchNorm2d, nn.Conv2d]
    assert {*plain.state_dict().keys()} == {*new.state_dict().keys()}


def test_layers_that_have_no_numbers_any_more_take_nothing_over():
    layer = SymmetricConv2d(3, 8, 3, symmetry=H, bias=False)
    assert desymmetrize(layer).bias is None
    norm = desymmetrize(nn.Sequential(OrbitBatchNorm2d(8, affine=False, symmetry=H)))[0]
    assert norm.weight is norm.bias is None


@pytest.mark.parametrize("kernel", [1, 3])
def test_the_order_in_memory_is_kept(kernel):
    for layers, rank, order in ((nn.Conv2d, 2, torch.channels_last), (nn.Conv3d, 3, torch.channels_last_3d)):
        model = nn.Sequential(layers(3, 8, kernel), layers(8, 8, kernel), layers(8, 4, kernel)).to(memory_format=order)
        x = torch.randn(1, 3, *[7] * rank)
        twin = equivariant(model, "h", example=x, measure=False)
        for new in (symmetrize(model, {"h": "50%"}), twin, desymmetrize(twin)):
            for layer in new:
                assert layer.weight.stride() == layer.weight.detach().clone(memory_format=order).stride()
        usual = symmetrize(nn.Sequential(layers(3, 8, kernel)), {"h": "50%"})
        assert usual[0].weight.stride() == torch.empty(usual[0].weight.shape).stride()


def test_layers_without_numbers_yet_are_refused_by_name_or_left_alone():
    lazy = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.Conv2d(8, 4, 1))
    for convert in CONVERSIONS.values():
        with pytest.raises(SymmetryError, match=r"^model: '0' has no weight yet. Expected a layer that has seen its"):
            convert(lazy)
    new = symmetrize(lazy, {"h": 4}, where=lambda name, conv: name == "2")
    plain = desymmetrize(new)
    assert [type(layer) for layer in plain] == [nn.LazyConv2d, nn.LazyBatchNorm2d, nn.Conv2d]
    new.eval(), plain.eval(), new(PICTURE)
    assert type(new[1]) is nn.BatchNorm2d
    assert type(lazy[1]) is nn.LazyBatchNorm2d
    assert plain(PICTURE).shape == new(PICTURE).shape


def test_norms_keep_further_buffers():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    model[1].register_buffer("seen", torch.arange(3.0))
    new = equivariant(model, "h", example=PICTURE)
    assert type(new[1]).__name__ == "OrbitBatchNorm2d"
    assert torch.equal(new[1].seen, model[1].seen)


def test_without_numbers_there_is_nothing_to_measure():
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
        x = torch.empty(1, 3, 7, 7)
    with pytest.raises(SymmetryError) as refusal:
        equivariant(model, "h", example=x)
    assert str(refusal.value) == (
        "measure: True cannot be held to a model on the meta device, which has no numbers. Expected False, or numbers. "
        "Pass measure=False."
    )
    assert equivariant(model, "h", example=x, measure=False)[0].weight.shape == (4, 3, 3, 3)


def test_what_comes_back_is_saved_whole():
    """Nothing of how the other layer answered goes with it."""
    twin = equivariant(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)), "h", example=PICTURE).eval()
    with torch.no_grad():
        twin(PICTURE), twin(PICTURE)
    plain = desymmetrize(twin, PICTURE)
    assert "_note" not in vars(plain[0])
    torch.save(plain, io.BytesIO())


def test_containers_that_hold_themselves_are_copied():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
    model.registry = {"layers": []}
    model.registry["self"], _ = model.registry, model.registry["layers"].append(model.registry)
    assert equivariant(model, "h", example=PICTURE)[0].weight.shape[0] == 4
