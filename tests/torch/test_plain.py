"""Without symmetry the layers are the host's own; with it they start with the host's variance."""

import inspect

import pytest
import torch
from torch import nn

import symmetric_layers.torch as layers

CONVS = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


def picture(name, channels=4):
    return torch.randn(2, channels, *(6, 7, 8)[: int(name[-2])])


@pytest.mark.parametrize("name", CONVS)
def test_arguments_are_the_hosts_and_five_more(name):
    ours = inspect.signature(getattr(layers, "Symmetric" + name)).parameters
    hosts = inspect.signature(getattr(nn, name)).parameters
    assert list(ours)[: len(hosts)] == list(hosts)
    assert [ours[key].default for key in hosts] == [hosts[key].default for key in hosts]
    more = list(ours)[len(hosts) :]
    assert more == ["symmetry", "share_bias", "in_symmetry", "grid", "algorithm"]
    assert {ours[key].kind for key in more} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("symmetry", [None, {}, {"h": 0}])
@pytest.mark.parametrize("name", CONVS)
def test_without_symmetry_the_layer_is_the_plain_one(name, symmetry):
    positional = (4, 6, 3, 2, 1)
    torch.manual_seed(0)
    host = getattr(nn, name)(*positional, groups=2)
    torch.manual_seed(0)
    layer = getattr(layers, "Symmetric" + name)(*positional, groups=2, symmetry=symmetry)
    assert isinstance(layer, getattr(nn, name))
    assert list(layer.state_dict()) == list(host.state_dict())
    for key, value in host.state_dict().items():
        assert torch.equal(layer.state_dict()[key], value)
    x = picture(name)
    assert torch.equal(layer(x), host(x))
    assert torch.equal(layer.full_weight(), host.weight)
    assert torch.equal(layer.full_bias(), host.bias)
    assert repr(layer) == repr(host).replace(name, "Symmetric" + name)


@pytest.mark.parametrize("name", CONVS)
def test_random_numbers_are_drawn_once(name):
    torch.manual_seed(0)
    getattr(nn, name)(4, 6, 3)
    expected = torch.rand(())
    torch.manual_seed(0)
    getattr(layers, "Symmetric" + name)(4, 6, 3)
    assert torch.rand(()) == expected


@pytest.mark.parametrize("name", CONVS)
def test_filters_start_with_the_hosts_variance(name):
    arguments = (32, 64, 3)
    torch.manual_seed(0)
    host = getattr(nn, name)(*arguments)
    layer = getattr(layers, "Symmetric" + name)(*arguments, symmetry={"h": 64}, in_symmetry={"h": 32})
    assert layer.full_weight().shape == host.weight.shape
    assert layer.full_weight().std().item() == pytest.approx(host.weight.std().item(), rel=0.03)
    assert layer.full_weight().abs().max().item() == pytest.approx(host.weight.abs().max().item(), rel=0.01)
    assert layer.bias.abs().max() <= host.bias.abs().max() * 1.2


@pytest.mark.parametrize("module", ["symmetric_layers_torch", "custom_layers_torch"])
def test_the_original_example_works_word_for_word(module):
    space = {}
    exec(
        f"from {module} import SymmetricConv2d, SymmetricConv3d\n"
        "a = SymmetricConv2d(in_channels=1, out_channels=16, kernel_size=3, symmetry={'h':2, 'v':4, 'hv':8})\n"
        "b = SymmetricConv3d(1, 16, 3, symmetry={'h':2, 'v':2, 'z':2, 'hz':4})\n",
        space,
    )
    assert space["a"].weight.shape == (7, 1, 3, 3)
    assert space["a"].full_weight().shape == (16, 1, 3, 3)
    assert space["b"].weight.shape == (10, 1, 3, 3, 3)
    assert space["b"](torch.randn(1, 1, 5, 5, 5)).shape == (1, 16, 3, 3, 3)


def test_the_repr_shows_the_symmetry():
    layer = layers.SymmetricConv2d(4, 16, 3, bias=False, symmetry={"v": "25%", "h": 2}, in_symmetry={"hv": 4})
    assert repr(layer) == (
        "SymmetricConv2d(4, 16, kernel_size=(3, 3), stride=(1, 1), bias=False, symmetry={'h': 2, 'v': 4}, "
        "in_symmetry={'hv': 4})"
    )
    assert layer.full_bias() is None
    each = layers.SymmetricConv1d(1, 2, 3, symmetry={"h": 2}, share_bias=False)
    assert repr(each).endswith("symmetry={'h': 2}, share_bias=False)")
    assert each.bias.shape == each.full_bias().shape == (2,)


def test_only_what_is_stored_is_saved():
    layer = layers.SymmetricConv2d(3, 16, 3, symmetry={"h": 2, "v": 4, "hv": 8})
    for mode in (True, False):
        state = layer.train(mode).state_dict()
        assert {key: tuple(value.shape) for key, value in state.items()} == {"weight": (7, 3, 3, 3), "bias": (7,)}


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("with_all_axes", [False, True])
def test_output_size_is_reached_as_the_host_reaches_it(rank, with_all_axes):
    torch.manual_seed(0)
    host = getattr(nn, f"ConvTranspose{rank}d")(4, 6, 3, stride=2, padding=1)
    layer = getattr(layers, f"SymmetricConvTranspose{rank}d")(4, 6, 3, stride=2, padding=1, symmetry={"h": 4})
    with torch.no_grad():
        host.weight.copy_(layer.full_weight())
        host.bias.copy_(layer.full_bias())
    for x in (picture(f"Conv{rank}d"), picture(f"Conv{rank}d")[0]):
        size = [2 * n for n in x.shape[-rank:]]
        if with_all_axes:
            size = [*x.shape[:-rank], *size]
        expected = host(x, output_size=size)
        assert list(expected.shape[-rank:]) == size[-rank:]
        assert torch.equal(layer(x, output_size=size), expected)


@pytest.mark.parametrize("size", [[100, 100], [1, 2, 3]])
def test_impossible_output_sizes_get_the_hosts_error(size):
    x = torch.randn(2, 4, 6, 7)
    host = nn.ConvTranspose2d(4, 6, 3, stride=2)
    layer = layers.SymmetricConvTranspose2d(4, 6, 3, stride=2, symmetry={"h": 4})
    with pytest.raises(ValueError) as expected:
        host(x, output_size=size)
    with pytest.raises(ValueError) as refusal:
        layer(x, output_size=size)
    assert str(refusal.value) == str(expected.value)


@pytest.mark.parametrize("name", CONVS)
def test_wrong_inputs_get_the_hosts_error(name):
    host = getattr(nn, name)(4, 6, 3)
    layer = getattr(layers, "Symmetric" + name)(4, 6, 3, symmetry={"h": 4})
    for x in (picture(name, channels=5), torch.randn(3), picture(name).double()):
        with pytest.raises(RuntimeError) as expected:
            host(x)
        with pytest.raises(RuntimeError) as refusal:
            layer(x)
        assert str(refusal.value) == str(expected.value)


def test_wrong_host_arguments_get_the_hosts_error():
    with pytest.raises(ValueError, match="padding_mode must be one of"):
        layers.SymmetricConv2d(1, 2, 3, padding_mode="mirror", symmetry={"h": 2})
    with pytest.raises(ValueError, match='Only "zeros" padding mode is supported for SymmetricConvTranspose2d'):
        layers.SymmetricConvTranspose2d(1, 2, 3, padding_mode="reflect", symmetry={"h": 2})


def test_one_picture_without_a_batch_is_answered_alone():
    layer = layers.SymmetricConv2d(3, 8, 3, padding=1, padding_mode="reflect", symmetry={"hv": 8})
    x = torch.randn(3, 9, 9)
    assert torch.allclose(layer(x), layer(x[None])[0], atol=1e-6)


def test_channels_last_goes_in_and_comes_out():
    layer = layers.SymmetricConv2d(8, 16, 3, symmetry={"h": 16}).to(memory_format=torch.channels_last)
    x = torch.randn(2, 8, 9, 9).to(memory_format=torch.channels_last)
    answer = layer(x)
    assert answer.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(answer, layer(x.contiguous()), atol=1e-6)
