"""Layers keep their filters packed from call to call, and never answer with filters that they do not store any more."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from test_cpu import instruction_set  # noqa: F401
from test_folded import filled

import symmetric_layers.torch as layers
from symmetric_layers.torch.kernels import library, operators

pytestmark = pytest.mark.skipif(library.missing() is not None, reason=f"{library.missing()}")

LAYERS = {
    "orbits of pictures": (2, (24, 40, 3), {"symmetry": {"h": 40}, "padding": 1}, 9),
    "several kinds": (2, (5, 28, (3, 5)), {"symmetry": {"h": 8, "v": 8, "hv": 12}, "padding": (1, 2)}, 9),
    "a stem": (2, (3, 64, 7), {"symmetry": {"hv": 64}, "stride": 2, "padding": 3}, 21),
    "orbits of orbits": (2, (16, 48, 3), {"symmetry": {"hv": 48}, "in_symmetry": {"hv": 16}, "padding": 1}, 9),
    "shared vectors": (2, (32, 16, 3), {"symmetry": {"hv": 16}, "in_symmetry": {"hv": 32}, "padding": 1}, 9),
    "one tap": (2, (64, 72, 1), {"symmetry": {"h": 72}, "in_symmetry": {"h": 64}}, 9),
    "pixels in the lanes": (3, (6, 16, 3), {"symmetry": {"hvz": 16}, "padding": 1}, 9),
    "volumes of orbits": (3, (16, 16, 3), {"symmetry": {"hvz": 16}, "in_symmetry": {"hvz": 16}, "padding": 1}, 9),
    "many filters": (1, (64, 512, 9), {"symmetry": {"h": 512}, "padding": 4}, 33),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    rank, sizes, more, _ = LAYERS[request.param]
    return filled(getattr(layers, f"SymmetricConv{rank}d")(*sizes, algorithm="cpu", **more))


@pytest.fixture
def x(request, layer):
    size = LAYERS[request.node.callspec.params["layer"]][3]
    shape = (2, layer.in_channels, *[size] * layer._rank)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _numbers_only():
    with torch.no_grad():
        yield


def anew(layer, x):
    """What a layer that keeps nothing answers."""
    return copy.deepcopy(layer)(x)


def keeping(layer, x):
    """The layer, with its filters kept."""
    layer(x), layer(x)
    assert layer._note.how.rooms
    return layer


def test_a_layer_that_is_called_once_keeps_nothing(layer, x):
    layer(x)
    assert not layer._note.how.rooms


def test_what_is_kept_is_read(layer, x):
    before = keeping(layer, x)(x)
    assert torch.equal(before, anew(layer, x))
    rooms = layer._note.how.rooms
    kept = [room.clone() for room in rooms]
    assert torch.equal(layer(x), before)
    assert all(
        torch.equal(old.view(torch.int32), room.view(torch.int32)) for old, room in zip(kept, rooms, strict=True)
    )
    for room in rooms:
        room[-16:] = torch.nan
        room[room.numel() // 2 :].mul_(2)
    assert not torch.equal(layer(x), before)


def set_by_hand(layer):
    layer.weight.data[0, 0] = 0.5


def set_from_numpy(layer):
    layer.weight.data.numpy().flat[-1] *= np.float32(1.01)


def exchange_two(layer):
    layer.weight.data[[0, -1]] = layer.weight.data[[-1, 0]]


def turn_round(layer):
    layer.weight.data.neg_()


def move_on(layer):
    layer.weight.data.copy_(layer.weight.data.flatten().roll(1).view_as(layer.weight))


def exchange_within(layer):
    layer.weight.data.copy_(layer.weight.data.flip(-1) if layer.weight.shape[-1] > 1 else layer.weight.data.flip(1))


CHANGES = (set_by_hand, set_from_numpy, exchange_two, turn_round, move_on, exchange_within)


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_a_filter_is_seen(layer, x, change):
    before = keeping(layer, x)(x)
    change(layer)
    assert torch.equal(layer(x), anew(layer, x))
    assert not torch.equal(layer(x), before)
    assert torch.equal(layer(x), anew(layer, x))


def test_every_single_number_is_looked_at(layer, x):
    keeping(layer, x)
    own, found = layer.weight.data.view(-1), torch.Generator().manual_seed(2)
    places = torch.randint(len(own), (40,), generator=found).tolist()
    for place in {0, len(own) - 1, *places}:
        for value in (torch.nextafter(own[place], torch.tensor(9.0)), -own[place]):
            own[place] = value
            assert torch.equal(layer(x), anew(layer, x)), place


@pytest.fixture(params=[(16, 4), (32, 18), (64, 6), (96, 2), (50, 14)], ids=str)
def small(request):
    """Few numbers: every two of them are tried, in one part of the memory or two, in whole runs and what is left."""
    inputs, filters = request.param
    layer = layers.SymmetricConv2d(inputs, filters, 1, symmetry={"h": filters}, algorithm="cpu", bias=False)
    x = torch.randn(1, inputs, 2, 3, generator=torch.Generator().manual_seed(1))
    return keeping(filled(layer), x), x


def pairs(numbers):
    found = torch.randperm(numbers * numbers, generator=torch.Generator().manual_seed(3))[:100].tolist()
    steps = [(i, i + step) for step in (1, 4, 8, 16, 32, 64, 128) for i in range(numbers - step)]
    return [(one // numbers, one % numbers) for one in found] + steps


TWO = {
    "exchanged": lambda own, i, j: own.__setitem__([i, j], own[[j, i]]),
    "turned": lambda own, i, j: own.__setitem__([i, j], -own[[i, j]]),
    "doubled": lambda own, i, j: own.__setitem__([i, j], 2 * own[[i, j]]),
}


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("values", ["random", "equal", "in turns"])
@pytest.mark.parametrize("change", TWO)
def test_no_two_changes_hide_each_other(small, change, values):
    layer, x = small
    own = layer.weight.data.view(-1)
    if values != "random":
        own.copy_(torch.tensor([0.5, 0.5 if values == "equal" else 2.0]).repeat(len(own) // 2))
    stored, plain = own.clone(), copy.deepcopy(layer)
    for i, j in pairs(len(own)):
        TWO[change](own, i, j)
        plain.weight.data.copy_(layer.weight.data)
        plain._note = None
        assert torch.equal(layer(x), plain(x)), (i, j)
        own.copy_(stored)
        layer(x)


@pytest.mark.parametrize("last", [1, 16, 32, 64])
def test_runs_of_changes_do_not_hide_each_other(small, last):
    layer, x = small
    own = layer.weight.data.view(-1)
    for change in (
        own[-last:].neg_,
        lambda: own[-last:].fill_(2),
        lambda: own[:last].mul_(-2),
        lambda: own.copy_(own.roll(last)),
    ):
        change()
        assert torch.equal(layer(x), anew(layer, x))


def test_what_went_and_came_back_is_seen(layer, x):
    before, stored = keeping(layer, x)(x), layer.weight.data.clone()
    layer.weight.data.fill_(torch.nan)
    assert layer(x).isnan().any()
    layer.weight.data.copy_(stored)
    assert torch.equal(layer(x), before)


def test_the_bias_is_not_kept(layer, x):
    keeping(layer, x)
    layer.bias.data.add_(1)
    assert torch.equal(layer(x), anew(layer, x))


def test_another_layer_keeps_its_own(layer, x):
    other = keeping(copy.deepcopy(keeping(layer, x)), x)
    other.weight.data.mul_(2)
    assert torch.equal(other(x), anew(other, x))
    assert torch.equal(layer(x), anew(layer, x))
    assert layer._note.how.rooms[0].data_ptr() != other._note.how.rooms[0].data_ptr()


def test_who_learns_or_is_told_otherwise_keeps_nothing(layer, x):
    keeping(layer, x)
    with torch.enable_grad():
        layer(x)
    assert layer._note is None
    keeping(layer, x).eval()
    assert layer._note is None


def test_who_is_told_again_to_evaluate_keeps_them(layer, x):
    layer.eval()
    how = keeping(layer, x)._note.how
    layer.eval()
    assert layer._note.how is how


def test_where_there_is_no_memory_nothing_is_kept(layer, x, monkeypatch):
    def refuse(call):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(operators.Call, "new_room", refuse)
    expected = layer(x)
    for _ in range(3):
        assert torch.equal(layer(x), expected)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_instruction_set_keeps_them(layer, x, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        expected = layer(x)
        for _ in range(3):
            assert torch.equal(layer(x), expected)
        layer.weight.data.view(-1)[-1] += 1
        assert torch.equal(layer(x), anew(layer, x))
    finally:
        torch.set_num_threads(before)


def test_threads_that_ask_at_once_are_answered_alike(layer, x):
    expected = keeping(layer, x)(x)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: layer(x), range(24)):
            assert torch.equal(found, expected)


def test_whoever_comes_meanwhile_is_answered_without(layer, x):
    how = keeping(layer, x)._note.how
    expected = layer(x)
    for room in how.rooms:
        room.fill_(torch.nan)  # which would be read
    with how._free:
        assert torch.equal(layer(x), expected)
