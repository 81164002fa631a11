"""The kernels for GPUs: the reference's outputs and gradients to rounding, and answers that mirror bit for bit.

Where there is no GPU, Triton's interpreter runs them on the processor.
"""

import copy
import math
import os
from functools import partial
from importlib.util import find_spec

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import KINDS, cases
from test_cpu import last
from test_cpu import possible as possible_by
from test_cpu_shapes import ways_to_lie_in_memory
from test_folded import CHOSEN, FACE, GRIDS, exchanged, filled, large_enough, mirrored
from test_folded import built as built_on_processors
from test_folded import picture as picture_on_processors

import symmetric_layers.torch as layers
from symmetric_layers.letters import axes

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are loaded
    if find_spec("triton"):
        import in_order  # noqa: F401
HERE = pytest.mark.skipif(find_spec("triton") is None, reason="No triton here: install it, `pip install triton`")
pytestmark = [HERE, pytest.mark.filterwarnings("ignore:.*does not have a deterministic implementation:UserWarning")]

# how often a number is rounded, about: pictures and filters are folded, then rounded, the answer is, too; in float32
# most of the error comes from the sums
ROUNDINGS = {torch.float32: 32, torch.bfloat16: 4, torch.float16: 4}
DTYPES = pytest.mark.parametrize("dtype", ROUNDINGS, ids=str)
DEEP = pytest.mark.parametrize("deep", [False, True], ids=["lifting", "deep"])


@pytest.fixture(autouse=True)
def _poisoned():
    """Memory that nobody has written to holds NaN, and float32 is multiplied as such."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    torch.use_deterministic_algorithms(True, warn_only=True)  # paddings on GPUs can not be
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(autouse=True)
def _without_onednn():
    """It reads beyond some small pictures in bfloat16, on processors that multiply such numbers themselves."""
    before, torch.backends.mkldnn.enabled = torch.backends.mkldnn.enabled, False
    yield
    torch.backends.mkldnn.enabled = before


def random(*shape, dtype=torch.float32, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def built(case, grid, dtype):
    return built_on_processors(case, grid, dtype).to(DEVICE)


def picture(case, positions, pictures, dtype):
    return picture_on_processors(case, positions, pictures, dtype=dtype).to(DEVICE)


def chosen(name, dtype=torch.float32):
    rank, arguments, more = CHOSEN[name]
    return filled(getattr(layers, f"SymmetricConv{rank}d")(*arguments, **more)).to(DEVICE, dtype)


def conv(rank, inputs, outputs, kernel, deep=False, dtype=torch.float32, **more):
    """Orbits of all letters, from so many pictures or orbits."""
    kind, members = "hvz"[:rank], 2**rank
    layer = getattr(layers, f"SymmetricConv{rank}d")(
        members * inputs if deep else inputs, members * outputs, kernel, symmetry={kind: members * outputs},
        in_symmetry={kind: members * inputs} if deep else None, algorithm="triton", **more
    )  # fmt: skip
    return filled(layer).to(DEVICE, dtype)


possible = partial(possible_by, algorithm="triton")


def differentiated(layer, x, algorithm, gradient):
    """The answer, and the gradients of the input and of all that is stored."""
    layer.algorithm = algorithm
    layer.zero_grad()
    x = x.detach().requires_grad_()
    y = layer(x)
    y.backward(gradient.to(y))
    return [y.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())]


def agrees(layer, x, gradient=None):
    """Beside the reference in float64, of the same numbers; errors are measured by what is summed up."""
    exactly, sums = copy.deepcopy(layer).double(), copy.deepcopy(layer).double()
    if gradient is None:
        exactly.algorithm = "reference"  # the interpreter is slow to tell a shape
        gradient = random(*exactly(x.double()).shape, dtype=x.dtype, seed=2)
    ours = differentiated(layer, x, "triton", gradient)
    theirs = differentiated(exactly, x.double(), "reference", gradient)
    with torch.no_grad():
        for parameter in sums.parameters():
            parameter.abs_()
    magnitudes = differentiated(sums, x.double().abs(), "reference", gradient.abs())
    for mine, exact, magnitude in zip(ours, theirs, magnitudes, strict=True):
        assert mine.shape == exact.shape
        assert mine.dtype == x.dtype
        allowed = ROUNDINGS[x.dtype] * torch.finfo(x.dtype).eps
        assert mine.numel() == 0 or (mine - exact).abs().max() <= allowed * magnitude.max()


def same_bits(a, b):
    bits = torch.int32 if a.dtype == torch.float32 else torch.int16
    return a.shape == b.shape and torch.equal(a.contiguous().view(bits), b.contiguous().view(bits))


def mirrors_bitwise(layer, x, letters):
    """Whether answers mirror along each of the letters."""
    layer.algorithm = "triton"
    with torch.no_grad():
        straight = layer(x)
        for letter in letters:
            turned = layer(mirrored(x, layer.plan.inputs, letter))
            moved = [channel for channel, place in enumerate(layer.plan.exchange(letter)) if place != channel]
            if not same_bits(turned[:, moved], exchanged(straight, layer.plan, letter).flip(axes(letter))[:, moved]):
                return False
    return True


POSITIONS = st.tuples(*[st.integers(1, 7)] * 3)
NUMBERS = st.sampled_from(list(ROUNDINGS))


def quick(case):
    """One group, and no more taps than the interpreter has time for."""
    assume(math.prod(case.kernel) * 2 ** len("".join({*"".join(case.symmetry)})) <= 54)
    return case._replace(groups=1)


@settings(max_examples=40, deadline=None)
@given(cases(), POSITIONS, GRIDS, st.integers(0, 2), st.booleans(), NUMBERS)
def test_any_layer_answers_and_learns_as_the_reference(case, positions, grid, pictures, turned, dtype):
    case = quick(case)
    positions = large_enough(case, positions)
    layer, x = built(case, grid, dtype), picture(case, positions, pictures, dtype)
    x = last(x) if turned else x
    if possible(layer, x):
        agrees(layer, x)


@settings(max_examples=25, deadline=None)
@given(cases(), POSITIONS, GRIDS, st.integers(1, 2), st.booleans(), NUMBERS)
def test_any_layer_mirrors_bit_for_bit(case, positions, grid, pictures, turned, dtype):
    case = quick(case._replace(bias="shared" if case.bias == "each" else case.bias))
    positions = large_enough(case, positions)
    layer, x = built(case, grid, dtype), picture(case, positions, pictures, dtype)
    x = last(x) if turned else x
    if not possible(layer, x):
        return
    lawful = [True] * case.rank if grid == "mirrored" else FACE.lawful(case, positions)
    letters = {letter for kind, count in case.symmetry.items() if count for letter in kind}
    assert mirrors_bitwise(layer, x, [letter for letter in letters if lawful[axes(letter)[0]]])


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", CHOSEN)
def test_chosen_layers_answer_and_learn_as_the_reference(name):
    layer = chosen(name)
    x = random(2, layer.in_channels, *(4, 5, 7)[-CHOSEN[name][0] :])
    if possible(layer, x):
        agrees(layer, last(x))


@pytest.mark.parametrize("name", ["lifting", "deep", "lines"])
def test_one_picture_and_no_picture(name):
    layer = chosen(name)
    if name == "deep":
        layer = conv(2, 2, 3, 3, deep=True)
    x = random(2, layer.in_channels, *(6, 7)[-CHOSEN[name][0] :])
    agrees(layer, x[0])
    agrees(layer, x[:0])


def test_which_of_the_chosen_layers_are_refused():
    """Those in groups, with free channels among the inputs, and whose mirrored grid lies between the taps."""
    pictures = {name: random(1, arguments[0], *(7, 8, 6)[:rank]) for name, (rank, arguments, _) in CHOSEN.items()}
    refused = {name for name in CHOSEN if not possible(chosen(name), pictures[name])}
    assert refused == {"deep", "depthwise", "depthwise, strided", "in groups", "spread out and strided"}


BANKS = [
    (rank, {kind: 3 * 2 ** len(kind) for kind in kinds})
    for rank in (1, 2, 3)
    for kinds in [*[[kind] for kind in KINDS[rank]], KINDS[rank]]
]


@DEEP
@pytest.mark.parametrize(
    ("rank", "symmetry"), BANKS, ids=lambda value: "+".join(value) if isinstance(value, dict) else None
)
def test_every_kind(rank, symmetry, deep):
    everything = KINDS[rank][-1]
    inputs = {everything: 3 * 2**rank} if deep else None
    layer = filled(
        getattr(layers, f"SymmetricConv{rank}d")(
            inputs[everything] if deep else 3, sum(symmetry.values()) + 2, (2, 1, 2)[-rank:], padding=(1, 0, 1)[-rank:],
            symmetry=symmetry, in_symmetry=inputs,
        )
    ).to(DEVICE)  # fmt: skip
    x = random(2, layer.in_channels, *(3, 5, 4)[-rank:])
    agrees(layer, last(x) if len(symmetry) == 1 else x)
    assert mirrors_bitwise(layer, x, everything)


@DEEP
def test_taps_of_a_volume(deep):
    layer = conv(3, 1, 2, (3, 2, 2) if deep else 3, deep, padding=1)
    x = random(1, layer.in_channels, 3, 4, 5)
    agrees(layer, x)
    assert mirrors_bitwise(layer, last(x), "z")


@DEEP
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"),
    [
        (1, 1, 1),
        (1, 2, 1),
        (3, 2, 1),
        ((5, 2), 1, 1),
        ((1, 7), (1, 2), 1),
        ((2, 3), 1, 2),
        ((4, 1), 2, 1),
        ((3, 1), 3, 2),
    ],
)
def test_filters_of_many_sizes_at_many_strides(kernel, stride, dilation, deep):
    layer = conv(2, 3, 5, kernel, deep, stride=stride, dilation=dilation, padding=2)
    x = random(2, layer.in_channels, 8, 11)
    agrees(layer, x)
    layer.grid = "mirrored" if dilation == 1 else "shared"
    lawful = layer.grid == "mirrored" or stride == 1
    assert not lawful or mirrors_bitwise(layer, x, "h")
    assert not lawful or mirrors_bitwise(layer, last(x), "v")


@DEEP
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (7, 33), (40, 5)])
def test_any_number_of_channels(inputs, outputs, deep):
    layer = conv(2, inputs, outputs, (3, 1), deep, padding=(1, 0))
    x = random(2, layer.in_channels, 3, 4)
    agrees(layer, x)
    agrees(layer, last(x))
    assert mirrors_bitwise(layer, x, "h")


@DEEP
@DTYPES
def test_more_pixels_than_a_tile_holds(dtype, deep):
    layer = conv(2, 2, 3, (1, 3), deep, dtype, padding=(0, 1))
    x = random(3, layer.in_channels, 19, 21, dtype=dtype)
    agrees(layer, last(x))
    assert mirrors_bitwise(layer, x, "hv")


@DEEP
def test_a_kernel_may_be_larger_than_the_picture_and_padding_wider_than_the_kernel(deep):
    for kernel, padding, positions in (((1, 5), (0, 2), (1, 1)), ((3, 1), 1, (1, 2)), ((1, 3), (4, 3), (2, 3))):
        layer = conv(2, 3, 5, kernel, deep, padding=padding)
        x = random(2, layer.in_channels, *positions)
        agrees(layer, x)
        assert mirrors_bitwise(layer, x, "h")


@DEEP
@pytest.mark.parametrize("kernel", [1, 3])
def test_it_does_not_matter_how_pictures_and_gradients_lie_in_memory(kernel, deep):
    layer = conv(2, 5, 3, kernel, deep, padding=kernel // 2)
    x = random(3, layer.in_channels, 4, 5)
    expected = layer(x)
    with torch.device(DEVICE):
        ways = ways_to_lie_in_memory(x)
        strange = [*ways_to_lie_in_memory(random(*expected.shape, seed=5)).values()]
    for way, other in ways.items():
        assert torch.equal(other, x), way
        assert same_bits(layer(other), expected), way
    for gradient in (strange[0], strange[2], torch.ones((), device=DEVICE).expand(expected.shape)):
        agrees(layer, x, gradient)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_paddings_of_all_kinds(mode):
    layer = conv(2, 3, 5, 3, padding=1, padding_mode=mode)
    x = random(2, 3, 4, 5)
    agrees(layer, x)
    assert mirrors_bitwise(layer, x, "h")


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # the interpreter's: infinities meet
@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 5), (4, 8)], ids=["by pointers", "in boxes"])
@DEEP
def test_what_is_not_finite_arrives_where_the_reference_has_it_and_nowhere_else(value, deep, inputs, outputs):
    layer = conv(2, inputs, outputs, 3, deep, padding=1)
    x, gradient = random(2, layer.in_channels, 8, 9), random(2, layer.out_channels, 8, 9)
    for numbers in (x, gradient):
        numbers[0, 0, 1, 2] = numbers[1, -1, 5, 8] = value
    fine = random(*x.shape, seed=3), random(*gradient.shape, seed=4)
    for seen, arriving in ((x, fine[1]), (fine[0], gradient)):
        ours, theirs = (differentiated(layer, seen, name, arriving)[:2] for name in ("triton", "reference"))
        for mine, exact in zip(ours, theirs, strict=True):
            finite = exact.isfinite()
            assert finite.any()
            assert torch.equal(mine.isfinite(), finite)
            torch.testing.assert_close(mine[finite], exact[finite], rtol=2e-5, atol=1e-4)
        assert not all(exact.isfinite().all() for exact in theirs)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("channels", [7, 8], ids=["by pointers", "in boxes"])
def test_what_is_not_finite_beside_the_answer_is_in_no_gradient(channels):
    """A row that no filter reads in its middle: boxes reach it, and gradients are zeros there."""
    layer = layers.SymmetricConv2d(channels, 8, 3, symmetry={"h": 8}, bias=False, algorithm="triton").to(DEVICE)
    x = random(1, channels, 6, 7)
    x[:, :, -1] = torch.inf
    layer(x).sum().backward()
    assert layer.weight.grad.isfinite().all((0, 1, 3)).tolist() == [True, True, False]


def test_gradients_are_the_same_bits_from_run_to_run():
    layer = conv(2, 3, 5, 3, padding=1)
    x = random(3, 3, 19, 21)
    gradient = random(3, 20, 19, 21, seed=5)
    once, again = (differentiated(layer, x, "triton", gradient) for _ in range(2))
    assert all(same_bits(*pair) for pair in zip(once, again, strict=True))
