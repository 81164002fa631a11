"""The networks of the rows are what the rows say."""

import pytest
import torch
from torch import nn

from symmetric_layers.compare.data import NAMES, load
from symmetric_layers.compare.models import equal_weights, example, halve, parameters, plain
from symmetric_layers.compare.twins import build
from symmetric_layers.letters import axes, mirrors
from symmetric_layers.torch import SymmetricConv2d, equivariant

PICTURES = {"brain": (93, 77), "digits": (8, 8), "faces": (25, 25), "textures": (32, 32)}


def randomised(net):
    """The network in evaluation, in float64, with nothing left at its initial value."""
    generator = torch.Generator().manual_seed(0)
    for name, value in net.double().state_dict().items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator, dtype=value.dtype)
            value.copy_(0.5 + noise if "running_var" in name else noise - 0.5)
    return net.eval()


def error(name, net):
    """The largest difference between the answer to a mirrored picture and the mirrored answer, relative."""
    task = load(name)
    picture = torch.randn(2, 1, *PICTURES[name], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    straight, errors = net(picture), []
    for letters in mirrors(task.kind)[1:]:
        answer = net(picture.flip(axes(letters)))
        errors.append((answer - (straight.flip(axes(letters)) if task.maps else straight)).abs().max())
    return float(max(errors) / straight.abs().max())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("net", ["twin", "wide"])
def test_a_twin_mirrors_its_answer_when_the_picture_is_mirrored(name, net, tolerance):
    with torch.no_grad():
        assert error(name, randomised(build(load(name), net))) <= tolerance["float64"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("net", ["plain", "bank"])
def test_the_other_networks_do_not(name, net):
    with torch.no_grad():
        assert error(name, randomised(build(load(name), net))) > 1e-3


@pytest.mark.parametrize("size", [(8, 9), (9, 8), (24, 93), (77, 47)])
def test_halving_is_its_own_mirror_at_every_size(size):
    picture = torch.randn(1, 2, *size)
    for letters in mirrors("hv")[1:]:
        assert torch.equal(halve(picture.flip(axes(letters))), halve(picture).flip(axes(letters)))


@pytest.mark.parametrize("name", NAMES)
def test_the_wide_twin_has_the_weights_of_the_plain_network_within_three_percent(name):
    plain, wide = (parameters(build(load(name), net)) for net in ("plain", "wide"))
    assert abs(wide / plain - 1) < 0.03


@pytest.mark.parametrize("name", NAMES)
def test_a_twin_of_equal_channels_has_one_weight_per_orbit(name):
    task = load(name)
    plain, twin = (parameters(build(task, net)) for net in ("plain", "twin"))
    assert plain / twin == pytest.approx(len(mirrors(task.kind)), rel=0.01)


def test_the_brain_networks_have_the_weights_of_the_published_table():
    counts = [parameters(build(load("brain"), net)) for net in ("plain", "bank", "twin", "wide")]
    assert [round(count / 1000, 1) for count in counts] == [26.9, 20.2, 13.4, 26.9]


def test_the_wide_twin_keeps_the_proportions_of_the_plain_network():
    one, two, four = equal_weights(load("brain"))
    assert one % 2 == two % 2 == four % 2 == 0
    assert two / one == pytest.approx(2, rel=0.15)
    assert four / one == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("net", ["twin", "wide"])
def test_twins_are_what_the_converter_makes_of_a_plain_network(name, net):
    task = load(name)
    widths = equal_weights(task) if net == "wide" else None
    ordinary = plain(task, widths)
    new = equivariant(ordinary, task.kind, example=example(task))
    assert new.state_dict().keys() == build(task, net).state_dict().keys()
    assert str(new) == str(build(task, net, measure=True))


def test_a_layer_that_gives_classes_has_no_mirrored_bank():
    net = build(load("brain"), "bank")
    mirrored = [name for name, module in net.named_modules() if isinstance(module, SymmetricConv2d)]
    assert len(mirrored) == 8
    assert type(net.head) is nn.Conv2d


@pytest.mark.parametrize("net", ["bank", "twin", "wide"])
def test_all_rows_are_the_same_network_but_for_their_layers(net):
    def skeleton(name):
        kinds = (nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU)
        return [
            next(kind for kind in kinds if isinstance(module, kind))
            for module in build(load("brain"), name).modules()
            if isinstance(module, kinds)
        ]

    assert skeleton(net) == skeleton("plain")
