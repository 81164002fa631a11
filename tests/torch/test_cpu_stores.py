"""The fused kernel writes the same answers, whether into the caches or past them, and whatever lies in its lanes."""

import pytest
import torch
from strategies import KINDS
from test_cpu import _shared_out, instruction_set, last  # noqa: F401
from test_folded import filled

import symmetric_layers.torch as layers
from symmetric_layers.torch.kernels import direct, library, operators

pytestmark = pytest.mark.skipif(library.missing() is not None, reason=f"{library.missing()}")


@pytest.fixture(autouse=True)
def _filled():
    """All memory has been written to before: only then answers go past the caches."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def forget():
    """What was worked out for other sizes of caches."""
    for known in (operators._answering, operators._going_back, operators._learning, direct._known):
        known.cache_clear()


@pytest.fixture
def told(monkeypatch):
    """Has the kernel believe in other sizes."""

    def tell(caches, budget=library._BUDGET):
        monkeypatch.setattr(library, "_caches", lambda: caches)
        monkeypatch.setattr(library, "_BUDGET", budget)
        forget()

    yield tell
    forget()


def layer(rank, inputs, symmetry, kernel=3, seen=None, **more):
    made = getattr(layers, f"SymmetricConv{rank}d")(
        inputs, sum(symmetry.values()), kernel, symmetry=symmetry, in_symmetry=seen, algorithm="cpu", **more
    )
    return filled(made)


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def answered(made, x):
    """The answer, and the gradient of the input."""
    x = x.detach().requires_grad_()
    y = made(x)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y))
    with torch.no_grad():
        assert torch.equal(made(x), y)
    return y.detach(), x.grad


@pytest.mark.parametrize("deep", [False, True], ids=["lifting", "deep"])
@pytest.mark.parametrize("orbits", [3, 17])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_answers_past_the_caches_are_the_same(instruction_set, told, rank, orbits, deep):  # noqa: F811
    """Rows begin anywhere in a cache line, and pictures end within one."""
    kind = KINDS[rank][-1]
    seen = {kind: 3 * 2**rank} if deep else None
    made = layer(rank, seen[kind] if deep else 3, {kind: orbits * 2**rank, "h": 2}, seen=seen, padding=1, bias=True)
    for positions in ((4, 9, 33), (4, 8, 32)):
        x = random(2, made.in_channels, *positions[-rank:])
        for lying in (x, last(x)):
            told(caches=1 << 40)
            expected = answered(made, lying)
            told(caches=0)
            for found, wanted in zip(answered(made, lying), expected, strict=True):
                assert torch.equal(found, wanted)


def test_answers_past_the_caches_of_inputs_in_pieces(told):
    made = layer(3, 40, {"hvz": 24}, padding=1)
    x = random(1, 40, 6, 7, 40)
    told(caches=1 << 40, budget=48 * 1024)
    expected = made(x)
    told(caches=0)
    assert torch.equal(made(x), expected)
    assert torch.equal(made(last(x)), expected)


@pytest.mark.parametrize(
    ("symmetry", "seen"),
    [({"h": 8}, None), ({"hv": 16}, None), ({"h": 8}, {"h": 64}), ({"h": 8}, {"hv": 64}), ({"hv": 16}, {"hv": 64})],
)
def test_a_picture_has_the_same_answer_alone_and_beside_others(instruction_set, symmetry, seen):  # noqa: F811
    """Inputs come in pieces, whose sums are added: which they are must not depend on who else is answered."""
    made = layer(2, 64, symmetry, seen=seen, padding=1)
    x, before = random(4, 64, 112, 112), torch.get_num_threads()
    try:
        with torch.no_grad():
            y = made(x)
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                assert torch.equal(made(x[:1]), y[:1])
                assert torch.equal(made(x[1:]), y[1:])
    finally:
        torch.set_num_threads(before)


PLANES = {1: (2400,), 2: (49, 51), 3: (3, 49, 51)}  # large enough for pixels in the lanes


@pytest.mark.parametrize("inputs", [1, 3, 5, 32])
@pytest.mark.parametrize(("rank", "kind"), [(rank, kind) for rank in (1, 2, 3) for kind in KINDS[rank]])
def test_pixels_and_orbits_in_the_lanes_give_the_same_bits(instruction_set, rank, kind, inputs):  # noqa: F811
    """Channels that lie apart have pixels in the lanes, those side by side have orbits: all sum in the same order."""
    for kernel, stride, orbits in ((3, 1, 17), (7, 2, 33), (2, 1, 32)) if rank < 3 else ((3, 1, 17),):
        made = layer(rank, inputs, {kind: orbits * 2 ** len(kind)}, kernel, stride=stride, padding=kernel // 2)
        x = random(1, inputs, *[size * stride for size in PLANES[rank]])
        with torch.no_grad():
            y, exact = made(x), made.double()
            exact.algorithm = "reference"
            torch.testing.assert_close(y.double(), exact(x.double()), rtol=2e-5, atol=2e-5 * y.abs().max().item())
            made.float().algorithm = "cpu"
            if rank == 1:
                continue
            assert torch.equal(made(last(x)), y)
            assert torch.equal(made(x[..., :16, :]), made(last(x[..., :16, :])))


@pytest.mark.parametrize(("rank", "kind"), [(rank, kind) for rank in (2, 3) for kind in KINDS[rank]])
def test_orbits_seen_through_one_tap_give_the_same_bits_in_both_memory_formats(
    instruction_set,  # noqa: F811
    told,
    rank,
    kind,
):
    """In little room, too, where others would take their inputs in pieces."""
    told(caches=0, budget=48 * 1024)
    size = 2 ** len(kind)
    for inputs, outputs in ((5, 17), (64, 16)):
        made = layer(rank, inputs * size, {kind: outputs * size}, 1, {kind: inputs * size})
        x = random(1, inputs * size, *(2, 29, 31)[-rank:])
        with torch.no_grad():
            y = made(x)
            made.algorithm = "reference"
            torch.testing.assert_close(y, made(x), rtol=2e-5, atol=2e-5 * y.abs().max().item())
            made.algorithm = "cpu"
            assert torch.equal(made(last(x)), y)


@pytest.mark.parametrize("stride", [3, 4, 5])
@pytest.mark.parametrize("inputs", [1, 3, 16])
def test_strides_that_leave_pixels_out(inputs, stride):
    made = layer(2, inputs, {"h": 24, "hv": 52}, stride, stride=stride)
    x = random(2, inputs, 60, 64)
    expected = made(x)
    made.algorithm = "reference"
    torch.testing.assert_close(expected, made(x), rtol=2e-5, atol=2e-5)
    made.algorithm = "cpu"
    assert torch.equal(made(last(x)), expected)


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("inputs", [*range(1, 10), 15, 16, 17, 20])
def test_any_number_of_channels_side_by_side(instruction_set, inputs, stride):  # noqa: F811
    """Few orbits have pixels in the lanes: channels are taken apart by vectors, up to the last pixel and no further."""
    made = layer(2, inputs, {"h": 2, "hv": 4}, (3, 2), stride=stride, padding=1)
    for width in (1, 7, 34, 67):
        x = random(2, inputs + 2, 5, width)
        for seen in (x[:, :inputs], x[:, 1:-1], last(x)[:, :inputs].clone(), last(x)[:, 2:], last(x)[:, 1:-1]):
            made.algorithm = "cpu"
            found = made(seen)
            made.algorithm = "reference"
            torch.testing.assert_close(found, made(seen), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("orbits", [3, 9, 12, 20])
@pytest.mark.parametrize("inputs", [*range(1, 6), 8, 15, 17, 40, 64])
def test_any_number_of_orbits_side_by_side(instruction_set, inputs, orbits, kernel):  # noqa: F811
    """Their members are taken apart, of all pixels of a row at once where nothing lies between them."""
    for kind in ("h", "hv"):
        size = 2 ** len(kind)
        symmetry, seen = {kind: orbits * size}, {kind: inputs * size}
        made = layer(2, inputs * size, symmetry, kernel, seen, padding=kernel // 2)
        for width in (1, 7, 34):
            x = last(random(1, inputs * size + 2, 3, width))
            for some in (x[:, 2:], x[:, 1:-1], x[:, 2:].clone(memory_format=torch.channels_last), x[:, 2:, :, ::2]):
                made.algorithm = "cpu"
                found, mirrored = made(some), made(some[:, made.plan.inputs.exchange("h")].flip(-1))
                assert torch.equal(found[:, made.plan.exchange("h")].flip(-1), mirrored)
                assert torch.equal(made(some.contiguous()), found)
                made.algorithm = "reference"
                torch.testing.assert_close(found, made(some), rtol=2e-5, atol=2e-5 * found.abs().max().item())


@pytest.mark.parametrize("deep", [False, True], ids=["lifting", "deep"])
@pytest.mark.parametrize("stride", [7, 60, 200])
@pytest.mark.parametrize(("inputs", "orbits"), [(1, 9), (4, 20), (8, 16)])
def test_pixels_far_apart_side_by_side(instruction_set, inputs, orbits, stride, deep):  # noqa: F811
    """Some pixels of a row are summed together, also where the row has fewer: what follows it is there to be read."""
    inputs *= 1 + deep
    made = layer(2, inputs, {"h": 2 * orbits}, 1, {"h": inputs} if deep else None, stride=(1, stride))
    for width in (1, stride, 3 * stride + 1):
        x = last(random(1, inputs, 2, width))
        made.algorithm = "cpu"
        found = made(x)
        made.algorithm = "reference"
        torch.testing.assert_close(found, made(x), rtol=2e-5, atol=2e-5)
