"""Where the law breaks in networks that lay the positions of maps out in a row, and what such networks answer."""

import pytest
import torch
from torch import nn

from symmetric_layers import SymmetryError
from symmetric_layers.torch import assert_equivariant, equivariance_error, equivariant, where_it_breaks

PICTURE = torch.randn(2, 3, 12, 20, dtype=torch.float64)
PATCH = 4  # 3 x 5 tokens


class Patches(nn.Module):
    """Patches as tokens, between class tokens."""

    def __init__(self, before=0, behind=0, flat=False):
        super().__init__()
        self.pool, self.mix = nn.AvgPool2d(PATCH), nn.Linear(3, 8)
        self.before, self.behind = nn.Parameter(torch.randn(before, 8)), nn.Parameter(torch.randn(behind, 8))
        self.flat = flat

    def forward(self, x):
        tokens = self.mix(self.pool(x).flatten(2).transpose(1, 2))
        first, last = (one.expand(len(x), -1, -1) for one in (self.before, self.behind))
        tokens = torch.cat([first, tokens, last], 1)
        return tokens.flatten(0, 1) if self.flat else tokens


class Attends(nn.Module):
    """Attention of two heads, as many write it, with numbers for pairs of positions or without."""

    def __init__(self, pairs=0, every=1):
        super().__init__()
        self.query, self.pairs, self.every = nn.Linear(8, 8), nn.Parameter(torch.randn(pairs, pairs)), every
        self.drop, self.out = nn.Dropout(0.1), nn.Linear(8, 8)

    def forward(self, x):
        q = self.query(x).unflatten(2, (2, 4)).transpose(1, 2)
        weights = q @ q.transpose(2, 3)
        weights = weights + self.pairs if len(self.pairs) else weights
        return self.out((self.drop(weights.softmax(-1)) @ q).transpose(1, 2).flatten(2))


class Table(nn.Module):
    """Adds a number for every position."""

    def __init__(self, positions):
        super().__init__()
        self.table, self.drop = nn.Parameter(torch.randn(1, positions, 8)), nn.Dropout(0.1)

    def forward(self, x):
        return self.drop(x + self.table)


def network(*modules):
    return nn.Sequential(*modules).double().eval()


@pytest.mark.parametrize(("before", "behind"), [(0, 0), (1, 0), (5, 0), (0, 2)])
def test_tokens_are_maps_in_a_row(before, behind):
    count = before + 15 + behind
    body = [Patches(before, behind), nn.LayerNorm(8), Attends()]
    assert where_it_breaks(network(*body, Attends()), PICTURE, "hv").offender is None
    offender = where_it_breaks(network(*body, Table(count), Attends()), PICTURE, "hv").offender
    assert (offender.module, offender.reason) == ("3", "in its own forward, before it calls '3.drop'")
    offender = where_it_breaks(network(*body, Attends(count)), PICTURE, "v").offender
    assert (offender.module, offender.reason) == ("3", "in its own forward, before it calls '3.drop'")


class Windows(nn.Module):
    """Tokens inside windows of 2 x 2 positions, and back."""

    def __init__(self, inside, flat):
        super().__init__()
        self.pool, self.mix, self.inside, self.flat = nn.AvgPool2d(2), nn.Conv2d(3, 8, 1), inside, flat

    def forward(self, x):
        y = self.mix(self.pool(x)).unflatten(3, (5, 2)).unflatten(2, (3, 2))  # N, C, 3, 2, 5, 2
        y = y.permute(0, 2, 4, 3, 5, 1).flatten(0, 2)
        return self.inside(y.flatten(1, 2) if self.flat else y).sum()


@pytest.mark.parametrize("flat", [True, False])
def test_windows_are_parts_of_maps(flat):
    inside = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.ReLU())
    assert where_it_breaks(network(Windows(inside, flat)), PICTURE, "hv").offender is None
    if flat:
        inside = nn.Sequential(nn.LayerNorm(8), Attends(), Attends(4))
        assert where_it_breaks(network(Windows(inside, flat)), PICTURE, "hv").offender.module == "0.inside.2"


class Merges(nn.Module):
    """Every second position in both directions, from tokens: these maps are seen by no module."""

    def __init__(self, size):
        super().__init__()
        self.size, self.norm = size, nn.LayerNorm(8)

    def forward(self, x):
        y = x.unflatten(1, self.size)
        y = y[:, 0::2, 0::2] + y[:, 1::2, 0::2] + y[:, 0::2, 1::2] + y[:, 1::2, 1::2]
        return self.norm(y.flatten(1, 2))


def test_sizes_that_were_never_seen_have_the_shape_of_the_picture():
    picture = torch.randn(2, 3, 16, 32, dtype=torch.float64)
    first, second = Merges((4, 8)), Merges((2, 4))
    assert where_it_breaks(network(Patches(), first, Attends(), second), picture, "hv").offender is None
    offender = where_it_breaks(network(Patches(), first, Table(8), second), picture, "hv").offender
    assert offender.module == "2"


@pytest.mark.parametrize("shape", [(2, 3, 12), (2, 3, 8, 4, 12)], ids=["1-D", "3-D"])
def test_pictures_of_any_dimension_lie_in_rows(shape):
    class Rows(Patches):
        def __init__(self):
            super().__init__(1)
            self.pool = [nn.AvgPool1d, None, nn.AvgPool3d][len(shape) - 3](2)

    x, letters = torch.randn(shape, dtype=torch.float64), "h" if len(shape) == 3 else "hvz"
    assert where_it_breaks(network(Rows(), Attends()), x, letters).offender is None
    count = 1 + torch.Size(shape[2:]).numel() // 2 ** (len(shape) - 2)
    assert where_it_breaks(network(Rows(), Table(count), Attends()), x, letters).offender.module == "1"


def test_tokens_of_all_pictures_may_lie_in_one_row():
    body = [Patches(flat=True), nn.Linear(8, 8), nn.LayerNorm(8)]
    assert where_it_breaks(network(*body), PICTURE, "hv").offender is None


def test_text_beside_a_picture_is_not_mirrored():
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.words, self.attend = Patches(), nn.Linear(24, 8), Attends()

        def forward(self, x, text):
            words = self.words(text)
            return {"all": self.attend(torch.cat([words, self.patches(x)], 1)), "words": words}

    model, text = network(Reads())[0], torch.randn(2, 7, 24, dtype=torch.float64)
    assert where_it_breaks(model, (PICTURE, text), "hv").offender is None
    assert_equivariant(model, (PICTURE, text), "hv", tolerance=1e-12)


class Everything(nn.Module):
    """Answers tokens, what attends to what, and the class token."""

    def __init__(self, after=None):
        super().__init__()
        self.patch, self.norm, self.after = nn.Conv2d(3, 8, PATCH, PATCH), nn.LayerNorm(8), after or nn.Identity()
        self.first = nn.Parameter(torch.randn(1, 1, 8))
        self.out = nn.Linear(8, 8)

    def forward(self, x):
        tokens = torch.cat([self.first.expand(len(x), -1, -1), self.patch(x).flatten(2).transpose(1, 2)], 1)
        weights = (tokens @ tokens.transpose(1, 2)).softmax(-1)
        tokens = self.after(self.out(self.norm(weights @ tokens)))
        return {"tokens": tokens, "pooled": tokens[:, 0], "weights": weights}


def mirrored_tokens(tokens):
    return torch.cat([tokens[:, :1], tokens[:, 1:].unflatten(1, (3, 5)).flip(-2).flatten(1, 2)], 1)


def test_answers_of_tokens_are_mirrored_as_the_map_that_they_were():
    x = PICTURE.float()
    twin = equivariant(Everything(), "h", example=x).double()
    rows = {row.output: row for row in equivariance_error(twin, PICTURE, "h")}
    assert sorted(rows) == ["pooled", "tokens", "weights"]
    assert all(row.relative < 1e-12 for row in rows.values())
    straight, seen = twin(PICTURE)["tokens"], twin(PICTURE.flip(-1))["tokens"]
    torch.testing.assert_close(seen, mirrored_tokens(straight), rtol=0, atol=1e-12)
    assert all(row.relative > 1e-6 for row in equivariance_error(Everything().double(), PICTURE, "h"))


class Late(nn.Module):
    def forward(self, tokens):
        return tokens * torch.linspace(0.5, 1, 16, dtype=tokens.dtype)[:, None]


def test_answers_of_tokens_that_break_the_law_are_refused():
    with pytest.raises(
        SymmetryError, match=r"first at 'after' \(Late\): mirroring along 'h' does not mirror its answer"
    ):
        equivariant(Everything(Late()), "h", example=PICTURE.float())


def test_tokens_may_stay_orbits():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch, self.out = nn.Conv2d(3, 8, PATCH, PATCH), nn.Linear(8, 8)

        def forward(self, x):
            return self.out(self.patch(x).flatten(2).transpose(1, 2))

    twin = equivariant(Tokens(), "h", example=PICTURE.float(), answers="orbits").double()
    assert equivariance_error(twin, PICTURE, "h", symmetry={"h": "100%"})[0].relative < 1e-12
    straight, seen = twin(PICTURE), twin(PICTURE.flip(-1))
    exchanged = straight.unflatten(1, (3, 5)).flip(2).flatten(1, 2).unflatten(2, (4, 2)).flip(3).flatten(2)
    torch.testing.assert_close(seen, exchanged, rtol=0, atol=1e-12)
    assert equivariance_error(Tokens().double(), PICTURE, "h", symmetry={"h": "100%"})[0].relative > 1e-2
