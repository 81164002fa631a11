"""The fused kernel: every shape of filters and pictures, however they lie in memory, and what is not finite."""

import pytest
import torch
from test_cpu import _poisoned, _shared_out, agrees, last  # noqa: F401
from test_folded import filled, mirrors_bitwise, same_bits

import symmetric_layers.torch as layers
from symmetric_layers.torch.kernels import library

pytestmark = pytest.mark.skipif(library.missing() is not None, reason=f"{library.missing()}")


def conv(rank, inputs, outputs, kernel, deep=False, **more):
    """Orbits of all letters, from so many pictures or orbits."""
    kind, members = "hvz"[:rank], 2**rank
    symmetry, seen = {kind: members * outputs}, {kind: members * inputs}
    channels = members * inputs if deep else inputs
    layer = getattr(layers, f"SymmetricConv{rank}d")(
        channels, members * outputs, kernel, symmetry=symmetry, in_symmetry=seen if deep else None, **more
    )
    layer.algorithm = "cpu"
    return filled(layer)


def random(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


DEEP = pytest.mark.parametrize("deep", [False, True], ids=["lifting", "deep"])


@DEEP
@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize("stride", [1, 2, (1, 2), 3])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7, (1, 7), (7, 1), (2, 5), 4])
def test_filters_of_every_size_at_every_stride(kernel, stride, dilation, deep):
    padding = 3 * dilation
    layer = conv(2, 3, 5, kernel, deep, stride=stride, dilation=dilation, padding=padding)
    x = random(2, layer.in_channels, 15, 18)
    agrees(layer, x)
    agrees(layer, last(x))
    layer.grid = "mirrored" if dilation == 1 else "shared"
    lawful = layer.grid == "mirrored" or stride == 1
    assert not lawful or mirrors_bitwise(layer, x, "h", "cpu")
    assert not lawful or mirrors_bitwise(layer, last(x), "v", "cpu")


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@DEEP
def test_filters_of_every_size_on_lines_and_volumes(rank, kernel, stride, deep):
    layer = conv(rank, 2, 3, kernel, deep, stride=stride, padding=2, grid="mirrored")
    x = random(2, layer.in_channels, *(4, 6, 7)[-rank:])
    for some in (x, last(x)):
        agrees(layer, some)
        assert mirrors_bitwise(layer, some, "hvz"[rank - 1], "cpu")


@DEEP
@pytest.mark.parametrize("inputs", [1, 7, 31, 257, 300])
@pytest.mark.parametrize("outputs", [1, 5, 17, 33])
def test_any_number_of_channels(inputs, outputs, deep):
    layer = conv(2, inputs, outputs, (3, 1), deep, padding=(1, 0))
    x = random(2, layer.in_channels, 3, 4)
    agrees(layer, x)
    agrees(layer, last(x))
    assert mirrors_bitwise(layer, x, "h", "cpu")


@DEEP
@pytest.mark.parametrize("outputs", [1, 4, 7])
@pytest.mark.parametrize(("rank", "inputs"), [(2, 40), (3, 1), (3, 21), (3, 32)])
def test_few_orbits_of_pictures_that_come_piece_by_piece(rank, inputs, outputs, deep):
    layer = conv(rank, inputs, outputs, 3, deep, padding=1)
    x = random(2, layer.in_channels, *(5, 4, 21)[-rank:])
    for some in (x, last(x)):
        agrees(layer, some)
        for letter in "hvz"[:rank]:
            assert mirrors_bitwise(layer, some, letter, "cpu")


@DEEP
@pytest.mark.parametrize("outputs", [1, 3, 7])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (1, 2), (2, 2), (1, 3)])
@pytest.mark.parametrize("kernel", [1, 3, (5, 3), (3, 5), (2, 4)])
def test_filters_of_every_size_for_few_orbits_of_wide_pictures(kernel, stride, dilation, outputs, deep):
    layer = conv(2, 5, outputs, kernel, deep, stride=stride, dilation=dilation, padding=2 * dilation)
    x = random(2, layer.in_channels, 9, 31 if stride[1] > 1 else 37)
    layer.grid = "mirrored" if dilation == 1 else "shared"
    for some in (x, last(x)):
        agrees(layer, some)
        lawful = layer.grid == "mirrored" or stride == (1, 1)
        assert not lawful or all(mirrors_bitwise(layer, some, letter, "cpu") for letter in "hv")


@DEEP
@pytest.mark.parametrize("kind", ["h", "v", "z", "hv", "hz", "vz", "hvz"])
@pytest.mark.parametrize(
    ("stride", "kernel"),
    [((1, 1, 1), 3), ((2, 1, 1), 3), ((1, 2, 1), (3, 1, 3)), ((2, 2, 2), 3), ((1, 1, 1), (1, 5, 2))],
)
def test_few_orbits_of_any_kind_on_wide_volumes(kind, stride, kernel, deep):
    members = 2 ** len(kind)
    layer = layers.SymmetricConv3d(
        4 * members if deep else 4,
        3 * members,
        kernel,
        stride,
        1,
        symmetry={kind: 3 * members},
        in_symmetry={kind: 4 * members} if deep else None,
        grid="mirrored",
    )
    layer.algorithm = "cpu"
    layer = filled(layer)
    x = random(2, layer.in_channels, 5, 6, 19)
    for some in (x, last(x)):
        agrees(layer, some)
        assert all(mirrors_bitwise(layer, some, letter, "cpu") for letter in kind)


@DEEP
@pytest.mark.parametrize(("kilobytes", "width"), [(6, 37), (40, 32), (150, 35)])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"),
    [
        (3, 1, 1),
        (3, (2, 1, 1), 1),
        ((1, 3, 3), (2, 1, 1), 1),
        ((2, 3, 1), (3, 2, 2), 1),
        (3, 1, (2, 1, 1)),
    ],
)
def test_few_orbits_in_little_room(monkeypatch, kernel, stride, dilation, kilobytes, width, deep):
    """Planes go round in their ring, inputs come in pieces, and rows in parts."""
    monkeypatch.setattr(library, "_BUDGET", kilobytes * 1024)
    layer = conv(3, 20, 3, kernel, deep, stride=stride, dilation=dilation, padding=1, grid="mirrored")
    x = random(2, layer.in_channels, 9, 6, width)
    for some in (x, last(x)):
        agrees(layer, some)
        assert all(mirrors_bitwise(layer, some, letter, "cpu") for letter in "hvz")


@pytest.mark.parametrize(
    ("symmetry", "seen", "kilobytes"),
    [({"h": 40, "v": 38, "hv": 80}, None, 56), ({"h": 40}, {"h": 104}, 120), ({"v": 40}, {"hv": 104}, 120)],
    ids=["pictures", "neighbours", "far apart"],
)
def test_filters_learn_from_many_inputs_in_pieces(monkeypatch, symmetry, seen, kilobytes):
    """So little room that tiles of all inputs would have few pixels."""
    monkeypatch.setattr(library, "_BUDGET", kilobytes * 1024)
    filters = sum(symmetry.values()) + 3
    layer = layers.SymmetricConv2d(104, filters, 3, padding=1, symmetry=symmetry, in_symmetry=seen, algorithm="cpu")
    layer = filled(layer)
    x = random(3, 104, 6, 7)
    for weights in (torch.contiguous_format, torch.channels_last):
        layer.weight.data = layer.weight.data.to(memory_format=weights)
        for some in (x, last(x), random(3, 208, 6, 7)[:, ::2], x.mT.contiguous().mT):
            agrees(layer, some)


def test_more_inputs_than_two_chunks_of_products_hold():
    layer = conv(1, 600, 18, 3, padding=1)
    x = random(1, 600, 9)
    agrees(layer, x)
    agrees(layer, last(x))
    assert mirrors_bitwise(layer, x, "h", "cpu")


LARGE = {
    "many tiles": (2, 64, (3, 40, 41)),
    "many pictures in a tile": (2, 16, (9, 5, 5)),
    "a long row": (2, 3, (1, 9, 500)),
    "a long column": (2, 3, (1, 500, 9)),
    "a line": (1, 6, (2, 5000)),
    "a volume": (3, 8, (2, 9, 10, 11)),
    "a wide volume": (3, 24, (1, 12, 30, 40)),
    "a wide picture": (2, 8, (1, 5, 9000)),
    "single pixels": (2, 16, (70, 1, 1)),
}


@pytest.mark.parametrize(("orbits", "threads"), [(3, 2), (9, 1)])
@pytest.mark.parametrize("name", LARGE)
@DEEP
def test_pictures_that_are_cut_into_tiles(name, deep, orbits, threads):
    rank, channels, (pictures, *positions) = LARGE[name]
    layer = conv(rank, max(channels // 2**rank, 1) if deep else channels, orbits, 3, deep, padding=1)
    x = random(pictures, layer.in_channels, *positions)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        agrees(layer, x)
        agrees(layer, last(x))
        assert mirrors_bitwise(layer, x, "h", "cpu")
    finally:
        torch.set_num_threads(before)


@DEEP
@pytest.mark.parametrize("positions", [(1, 1), (1, 6), (2, 1)])
def test_a_kernel_may_be_larger_than_the_picture(positions, deep):
    layer = conv(2, 3, 5, 7, deep, padding=3)
    x = random(2, layer.in_channels, *positions)
    agrees(layer, x)
    assert mirrors_bitwise(layer, x, "h", "cpu")


@DEEP
def test_padding_may_be_wider_than_the_kernel(deep):
    layer = conv(2, 3, 5, 3, deep, padding=(7, 4))
    x = random(2, layer.in_channels, 3, 2)
    agrees(layer, x)
    assert mirrors_bitwise(layer, x, "v", "cpu")


def ways_to_lie_in_memory(x):
    """The same numbers, with and without neighbours side by side."""
    n, c, h, w = x.shape
    wide = torch.full((n, c, h + 2, 2 * w), torch.nan)
    wide[:, :, 1:-1, ::2] = x
    many = torch.full((n, 2 * c, h, w), torch.nan)
    many[:, ::2] = x
    cropped = torch.full((n, h + 1, w + 3, c + 2), torch.nan)
    cropped[:, 1:, 2:-1, 1:-1] = x.permute(0, 2, 3, 1)
    return {
        "every other pixel": wide[:, :, 1:-1, ::2],
        "every other channel": many[:, ::2],
        "cropped, channels last": cropped[:, 1:, 2:-1, 1:-1].permute(0, 3, 1, 2),
        "height last": x.mT.contiguous().mT,
        "pictures last": x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
        "channels first": x.transpose(0, 1).contiguous().transpose(0, 1),
        "channels last": last(x),
    }


@DEEP
@pytest.mark.parametrize("stride", [1, 2])
def test_it_does_not_matter_how_a_picture_lies_in_memory(deep, stride):
    layer = conv(2, 17, 19, 3, deep, padding=1, stride=stride)
    x = random(3, layer.in_channels, 9, 11)
    for way, other in ways_to_lie_in_memory(x).items():
        assert torch.equal(other, x), way
        assert same_bits(layer(other), layer(x)), way
        agrees(layer, other)


@DEEP
def test_it_does_not_matter_how_a_gradient_lies_in_memory(deep):
    layer = conv(2, 17, 19, 3, deep, padding=1)
    x = random(3, layer.in_channels, 9, 11)
    y = layer(x)
    for seen in (x, last(x)):
        for gradient in ways_to_lie_in_memory(random(*y.shape, seed=5)).values():
            agrees(layer, seen, gradient)
        agrees(layer, seen, torch.ones(()).expand(y.shape))
        agrees(layer, seen, random(1, y.shape[1], 1, 1).expand(y.shape))
        agrees(layer, seen, random(3, 1, 9, 11).expand(y.shape))


@pytest.mark.parametrize("shape", [(1, 3, 4, 1), (1, 3, 1, 4), (1, 1, 4, 5), (4, 3, 1, 1)])
def test_axes_of_one_place_have_any_stride(shape):
    layer = conv(2, shape[1], 5, 3, padding=1)
    x = random(*shape)
    agrees(layer, strangely_strided(x))
    agrees(layer, x, strangely_strided(layer(x).detach()))


@DEEP
@pytest.mark.parametrize("stride", [1, 2])
def test_pixels_that_are_one_number(stride, deep):
    """Sums over positions send back gradients that are expanded, and pictures may be, too."""
    for outputs in (1, 4, 40):
        layer = conv(2, 4, outputs, 3, deep, padding=1, stride=stride)
        x = random(2, layer.in_channels, 1, 1).expand(-1, -1, 20, 20)
        agrees(layer, x)
        gradient = random(*layer(x).shape[:2], 1, 1).expand_as(layer(x))
        agrees(layer, random(2, layer.in_channels, 20, 20), gradient)


def strangely_strided(x):
    """The same numbers; axes of one place may have any stride."""
    return torch.as_strided(x, x.shape, [7 if n == 1 else stride for n, stride in zip(x.shape, x.stride())])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("kernel", [1, 3, (2, 5)])
@DEEP
def test_what_is_not_finite_arrives_where_the_reference_has_it_and_nowhere_else(value, kernel, deep):
    layer = conv(2, 3, 5, kernel, deep, padding=1)
    x = random(2, layer.in_channels, 13, 14)
    x[0, 0, 1, 2] = x[1, -1, 6, 13] = x[1, 1, 12, 0] = value
    for seen in (x, last(x)):
        arrives_alike(layer, seen, torch.ones(()))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@DEEP
def test_gradients_that_are_not_finite_arrive_where_the_reference_has_them(value, deep):
    layer = conv(2, 3, 5, 3, deep, padding=1)
    x = random(2, layer.in_channels, 13, 14)
    gradient = random(*layer(x).shape)
    gradient[0, 0, 1, 2] = gradient[1, -1, 6, 13] = gradient[1, 1, 12, 0] = value
    for seen in (x, last(x)):
        arrives_alike(layer, seen, gradient)


def arrives_alike(layer, x, gradient):
    """Answers and gradients of the picture: equal where the reference's are finite, not finite where they are not."""
    found = {}
    for layer.algorithm in ("reference", "cpu"):
        seen = x.detach().requires_grad_()
        y = layer(seen)
        found[layer.algorithm] = y.detach(), torch.autograd.grad(y, seen, gradient.expand(y.shape))[0]
    for theirs, ours in zip(found["reference"], found["cpu"]):
        fine = theirs.isfinite()
        assert fine.any()
        assert torch.equal(ours.isfinite(), fine)
        torch.testing.assert_close(ours[fine], theirs[fine], rtol=2e-5, atol=1e-4)
    assert not all(theirs.isfinite().all() for theirs in found["reference"])
