"""Folding: the reference's outputs and gradients, and answers that mirror bit for bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import cases
from test_contract import TorchFace
from torch import nn

import symmetric_layers.torch as layers
from symmetric_layers.letters import axes
from symmetric_layers.torch.kernels.channels import exchange_channels

FACE = TorchFace()
BITS = {torch.float32: torch.int32, torch.float64: torch.int64}


def filled(layer, seed=0):
    """The same layer with random numbers, biases among them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return layer


def built(case, grid="shared", dtype=torch.float64):
    layer = filled(FACE.layer(case)).to(dtype)
    layer.grid = grid
    return layer


def picture(case, positions, pictures=2, seed=1, dtype=torch.float64):
    """Random numbers with zeros of both signs among them, as after a ReLU."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(pictures, case.channels, *positions, generator=generator, dtype=torch.float64)
    keep = torch.rand(x.shape, generator=generator, dtype=torch.float64) < 0.7
    return (x * keep).to(dtype)


def differentiated(layer, x, algorithm):
    """The answer, and the gradients of the input and of all that is stored."""
    layer.algorithm = algorithm
    layer.zero_grad()
    x = x.detach().clone().requires_grad_()
    y = layer(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (y * weights).sum().backward()
    return [y.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())]


def agrees(layer, x):
    for ours, theirs in zip(differentiated(layer, x, "folded"), differentiated(layer, x, "reference"), strict=True):
        assert ours.shape == theirs.shape
        assert ours.numel() == 0 or (ours - theirs).abs().max() <= 1e-11  # sums over some thousand products


def same_bits(a, b):
    return a.shape == b.shape and torch.equal(a.contiguous().view(BITS[a.dtype]), b.contiguous().view(BITS[b.dtype]))


def exchanged(x, plan, letter):
    return x[:, list(plan.exchange(letter))] if plan.depthwise else exchange_channels(x, plan, letter)


def mirrored(x, plan, letter):
    """Pictures in the mirror, their channels exchanged where these are orbits."""
    return (x if plan is None else exchange_channels(x, plan, letter)).flip(axes(letter))


def mirrors_bitwise(layer, x, letter, algorithm="folded"):
    layer.algorithm = algorithm
    with torch.no_grad():
        straight, turned = layer(x), layer(mirrored(x, layer.plan.inputs, letter))
    moved = [channel for channel, place in enumerate(layer.plan.exchange(letter)) if place != channel]
    return same_bits(turned[:, moved], exchanged(straight, layer.plan, letter).flip(axes(letter))[:, moved])


def large_enough(case, positions):
    """The same sizes, larger where the host would give no answer."""
    room = {"zeros": -99, "replicate": -99, "reflect": 1, "circular": 0}[case.mode]
    least = [
        max(d * (k - 1) + 1 - 2 * p, p + room, 1)
        for d, k, p in zip(case.dilation, case.kernel, case.padding, strict=True)
    ]
    return tuple(map(max, positions, least))


POSITIONS = st.tuples(*[st.integers(1, 9)] * 3)
GRIDS = st.sampled_from(["shared", "mirrored"])


@settings(max_examples=100, deadline=None)
@given(cases(), POSITIONS, GRIDS, st.integers(0, 3))
def test_any_layer_answers_and_learns_as_the_reference(case, positions, grid, pictures):
    positions = large_enough(case, positions)
    agrees(built(case, grid), picture(case, positions, pictures))


@settings(max_examples=150, deadline=None)
@given(cases(), st.tuples(*[st.integers(1, 20)] * 3), GRIDS, st.sampled_from([*BITS]), st.integers(1, 3))
def test_any_layer_mirrors_bit_for_bit(case, positions, grid, dtype, pictures):
    case = case._replace(bias="shared" if case.bias == "each" else case.bias)
    positions = large_enough(case, [min(size, 400 // case.rank**3) for size in positions])
    layer, x = built(case, grid, dtype), picture(case, positions, pictures, dtype=dtype)
    lawful = [True] * case.rank if grid == "mirrored" else FACE.lawful(case, positions)
    for letter in {letter for kind, count in case.symmetry.items() if count for letter in kind}:
        assert not lawful[axes(letter)[0]] or mirrors_bitwise(layer, x, letter)


CHOSEN = {
    "lifting": (2, (3, 8, 3), {"symmetry": {"h": 8}, "padding": 1}),
    "lifting, same": (2, (2, 8, (2, 4)), {"symmetry": {"hv": 8}, "padding": "same", "grid": "mirrored"}),
    "lifting, lopsided": (2, (2, 8, (2, 4)), {"symmetry": {"hv": 8}, "padding": "same"}),
    "wrapped, lopsided": (
        2, (2, 4, (2, 4)), {"symmetry": {"hv": 4}, "padding": "same", "padding_mode": "circular", "grid": "mirrored"},
    ),
    "one pixel read": (2, (4, 8, 1), {"symmetry": {"hv": 8}}),
    "deep, one pixel read": (2, (8, 8, 1), {"symmetry": {"h": 8}, "in_symmetry": {"h": 8}}),
    "deep": (2, (14, 10, 3), {"symmetry": {"h": 2, "v": 2, "hv": 4}, "in_symmetry": {"hv": 12}, "padding": (1, 2)}),
    "deeper than it is wide": (3, (16, 4, 3), {"symmetry": {"h": 4}, "in_symmetry": {"hz": 8, "hvz": 8}, "padding": 1}),
    "depthwise": (2, (10, 10, 3), {"symmetry": {"hv": 8}, "in_symmetry": {"hv": 8}, "groups": 10, "padding": 1}),
    "depthwise, strided": (
        2, (8, 8, 3), {"symmetry": {"h": 8}, "in_symmetry": {"h": 8}, "groups": 8, "stride": 2, "grid": "mirrored"},
    ),
    "in groups": (2, (8, 12, 3), {"symmetry": {"h": 8}, "in_symmetry": {"hv": 8}, "groups": 2, "padding": 1}),
    "a bias for each": (2, (3, 8, 3), {"symmetry": {"h": 2, "hv": 4}, "share_bias": False, "padding": 2}),
    "spread out and strided": (
        2, (2, 8, (3, 2)), {"symmetry": {"hv": 8}, "dilation": 2, "stride": (3, 2), "padding": 1, "grid": "mirrored"},
    ),
    "reflected": (2, (2, 8, 5), {"symmetry": {"v": 8}, "padding": 2, "padding_mode": "reflect"}),
    "volumes": (3, (2, 24, 3), {"symmetry": {"h": 2, "vz": 4, "hvz": 16}, "padding": 1}),
    "lines": (1, (2, 6, 4), {"symmetry": {"h": 4}, "padding": 2}),
}  # fmt: skip
BITWISE = {name for name, (_, _, more) in CHOSEN.items() if name != "lifting, lopsided" and "share_bias" not in more}


def chosen(name, dtype=torch.float64):
    rank, arguments, more = CHOSEN[name]
    return filled(getattr(layers, f"SymmetricConv{rank}d")(*arguments, **more)).to(dtype)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", CHOSEN)
def test_chosen_layers_answer_and_learn_as_the_reference(name):
    layer = chosen(name)
    generator = torch.Generator().manual_seed(1)
    for positions in ((7, 8, 6), (8, 5, 7)):
        x = torch.randn(
            2, layer.in_channels, *positions[: len(layer.kernel_size)], generator=generator, dtype=torch.float64
        )
        agrees(layer, x)
        agrees(layer, x[0])
        agrees(layer, x[:0])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", BITS, ids=str)
@pytest.mark.parametrize("name", sorted(BITWISE))
def test_chosen_layers_mirror_bit_for_bit_at_many_sizes(name, dtype, threads):
    layer, rank = chosen(name, dtype), CHOSEN[name][0]
    generator = torch.Generator().manual_seed(1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for width in (3, 5, 8, 15, 18, 31, 57) if rank < 3 else (3, 6, 9):
            x = torch.randn(1, layer.in_channels, *(4, 7, width)[-rank:], generator=generator, dtype=dtype)
            for letter in set("".join(layer.plan.kinds)):
                assert mirrors_bitwise(layer, x, letter)
    finally:
        torch.set_num_threads(before)


def test_a_kernel_may_be_larger_than_the_picture():
    layer = filled(layers.SymmetricConv2d(2, 8, 7, padding=3, symmetry={"hv": 8}, dtype=torch.float64))
    x = torch.randn(2, 2, 2, 1, dtype=torch.float64)
    agrees(layer, x)
    assert mirrors_bitwise(layer, x, "h")


@pytest.mark.parametrize(("dtype", "tiny"), [(torch.float32, 1e-30), (torch.float64, 1e-200)], ids=str)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", ["h", "hv"])
def test_zeros_have_no_sign(kind, bias, dtype, tiny):
    """What is even becomes -0.0 here, for want of smaller numbers, and what is odd 0.0."""
    size = 2 ** len(kind)
    layer = layers.SymmetricConv2d(size, 4 * size, 1, symmetry={kind: 4 * size}, in_symmetry={kind: size}, bias=bias)
    layer = layer.to(dtype)
    nn.init.constant_(layer.weight, -tiny)
    if bias:
        nn.init.constant_(layer.bias, -0.0)
    x = torch.full((1, layer.in_channels, 6, 7), tiny, dtype=dtype)
    assert mirrors_bitwise(layer, x, "h")
    assert not layer(x).signbit().any()


def ways_to_lie_in_memory(x):
    wide = torch.zeros(*x.shape[:-1], 2 * x.shape[-1] + 1, dtype=x.dtype)
    wide[..., 1::2] = x
    return [wide[..., 1::2], x.contiguous(memory_format=torch.channels_last), x.mT.contiguous().mT]


def test_it_does_not_matter_how_a_picture_lies_in_memory():
    layer = filled(layers.SymmetricConv2d(8, 8, 3, padding=1, symmetry={"hv": 8}, in_symmetry={"hv": 8}))
    layer.algorithm = "folded"
    x = torch.randn(2, 8, 9, 11)
    for other in ways_to_lie_in_memory(x):
        assert torch.equal(other, x)
        assert same_bits(layer(other), layer(x))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["lifting", "deep", "one pixel read", "volumes", "in groups"])
def test_what_is_not_finite_arrives_where_the_reference_has_it(name, value):
    layer = chosen(name)
    x = torch.randn(2, layer.in_channels, *(7, 8, 9)[-CHOSEN[name][0] :], dtype=torch.float64)
    x.view(-1)[:: x.numel() // 5] = value
    layer.algorithm = "reference"
    expected = layer(x).isfinite()
    layer.algorithm = "folded"
    assert torch.equal(layer(x).isfinite(), expected)
    assert not expected.all()


@pytest.mark.parametrize("name", ["lifting", "deep", "depthwise, strided", "spread out and strided"])
def test_first_and_second_derivatives_are_right(name):
    layer = chosen(name)
    layer.algorithm = "folded"
    x = torch.randn(1, layer.in_channels, 3, 4, dtype=torch.float64, requires_grad=True)
    keys, values = zip(*[(key, value.detach().requires_grad_()) for key, value in layer.named_parameters()])

    def answer(x, *values):
        return torch.func.functional_call(layer, dict(zip(keys, values)), (x,))

    assert torch.autograd.gradcheck(answer, (x, *values), fast_mode=True)
    assert torch.autograd.gradgradcheck(answer, (x, *values), fast_mode=True)


def network(dtype):
    """Every layer of it mirrors bit for bit, at every size."""
    h = {"hv": 16}
    more = {"symmetry": h, "in_symmetry": h, "grid": "mirrored", "algorithm": "folded"}
    net = nn.Sequential(
        layers.SymmetricConv2d(1, 16, 5, 2, 2, symmetry=h, grid="mirrored", algorithm="folded"),
        layers.OrbitBatchNorm2d(16, symmetry=h), nn.ReLU(),
        layers.Mirrored(nn.MaxPool2d(3, 2, 1), h),
        layers.SymmetricConv2d(16, 16, 3, padding=1, **more),
        layers.OrbitBatchNorm2d(16, symmetry=h), nn.ReLU(),
        layers.SymmetricConv2d(16, 16, 3, 2, 1, groups=16, bias=False, **more),
        layers.SymmetricConv2d(16, 16, 1, **more), nn.ReLU(),
        layers.OrbitPool(h, "max"),
    )  # fmt: skip
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return net.to(dtype).eval()


@pytest.mark.parametrize("dtype", BITS, ids=str)
def test_a_whole_network_mirrors_bit_for_bit(dtype):
    torch.manual_seed(0)
    net = network(dtype)
    with torch.no_grad():
        for positions in ((32, 40), (33, 41), (37, 30), (57, 61)):
            x = torch.randn(2, 1, *positions, dtype=dtype)
            for letters in ("h", "v", "hv"):
                assert same_bits(net(x.flip(axes(letters))), net(x).flip(axes(letters)))


@pytest.mark.parametrize("name", ["lifting", "deep, one pixel read", "depthwise"])
def test_folding_is_mapped_compiled_exported_and_cast(name):
    layer = chosen(name, torch.float32)
    layer.algorithm = "folded"
    x = torch.randn(3, layer.in_channels, 6, 7)
    expected = layer(x)
    torch.testing.assert_close(torch.vmap(layer)(x), expected)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), expected)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        cast = layer(x)
    assert cast.dtype == torch.bfloat16
    torch.testing.assert_close(cast.float(), expected, rtol=0.05, atol=0.2)
