"""Whatever way of resizing is seen in the mirror, the law holds at every size; so it does for pools that say places."""

import itertools

import pytest
import torch
from torch import nn

from symmetric_layers import plan
from symmetric_layers.torch import Mirrored

OF_RANK = {1: {"h": 4}, 2: {"h": 2, "hv": 4}, 3: {"hvz": 8}}
MODES = {
    1: ["nearest", "nearest-exact", "linear", "area"],
    2: ["nearest", "nearest-exact", "bilinear", "bicubic", "area"],
    3: ["nearest", "nearest-exact", "trilinear", "area"],
}
TARGETS = [
    *({"size": size} for size in (1, 2, 3, 6, 9, 13)),
    *({"scale_factor": factor} for factor in (0.4, 0.5, 1.0, 1.5, 2, 2.7, 3.0)),
    *({"scale_factor": factor, "recompute_scale_factor": True} for factor in (0.5, 1.5, 2.7)),
]
WIDTHS = {1: (3, 4, 6), 2: (4, 6), 3: (3,)}
CASES = [
    (rank, {"mode": mode, **corners})
    for rank in MODES
    for mode in MODES[rank]
    for corners in ([{}] if mode in ("nearest", "nearest-exact", "area") else [{"align_corners": b} for b in (0, 1)])
]


def pictures(rank, sizes, channels=9):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, *sizes[:rank], generator=generator, dtype=torch.float64)


def breach(answer, x, rank):
    """By how much the channels that know a letter break its law."""
    arranged, worst = plan(OF_RANK[rank], x.shape[1], rank), 0.0
    for letter, axis in zip("hvz"[:rank], (-1, -2, -3), strict=False):
        exchange = list(arranged.exchange(letter))
        knowing = [i for i, other in enumerate(exchange) if other != i]
        difference = answer(x[:, exchange].flip(axis)) - answer(x)[:, exchange].flip(axis)
        worst = max(worst, difference[:, knowing].abs().max().item())
    return worst


@pytest.mark.parametrize(("rank", "how"), CASES, ids=str)
def test_every_way_of_resizing_obeys(rank, how):
    how = {**how, "align_corners": bool(how["align_corners"])} if "align_corners" in how else how
    for target, n in itertools.product(TARGETS, WIDTHS[rank]):
        operator, x = nn.Upsample(**target, **how), pictures(rank, (4, 5, n)[-rank:])
        mirrored = Mirrored(operator, OF_RANK[rank])
        assert breach(mirrored, x, rank) <= 1e-12, (target, n)
        assert torch.equal(mirrored(x)[:, 8], operator(x)[:, 8])


@pytest.mark.parametrize(
    ("pool", "sizes"),
    [
        (nn.MaxPool2d(2, return_indices=True), (7, 9)),
        (nn.MaxPool2d(2, return_indices=True), (6, 8)),
        (nn.MaxPool2d(3, 2, 1, return_indices=True), (6, 9)),
        (nn.MaxPool1d(2, return_indices=True, ceil_mode=True), (7,)),
        (nn.MaxPool3d((1, 2, 2), return_indices=True), (3, 5, 7)),
        (nn.AdaptiveMaxPool2d(2, return_indices=True), (5, 4)),
    ],
    ids=str,
)
def test_a_pool_that_says_places_says_those_of_the_picture(pool, sizes):
    rank = len(sizes)
    mirrored, x = Mirrored(pool, OF_RANK[rank]), pictures(rank, sizes)
    largest, places = mirrored(x)
    assert torch.equal(x.flatten(2).gather(2, places.flatten(2)), largest.flatten(2))
    assert torch.equal(places[:, 8], pool(x)[1][:, 8])

    def spread(x):  # what a decoder does with both
        largest, places = mirrored(x)
        return torch.zeros_like(x).flatten(2).scatter(2, places.flatten(2), largest.flatten(2)).view(x.shape)

    assert breach(lambda x: mirrored(x)[0], x, rank) == 0
    assert breach(spread, x, rank) == 0
    for found, one in zip(mirrored(x[0]), mirrored(x[:1]), strict=True):
        assert torch.equal(found, one[0])
