"""Tables of positions that are added to maps and tokens: mirrors have the mirrored table."""

import pytest
import torch
from test_convert_networks import randomise
from torch import nn

from symmetric_layers import SymmetryError
from symmetric_layers.torch import desymmetrize, equivariance_error, equivariant


class Transformer(nn.Module):
    """Patches, tokens in front of them, a table of positions, attention."""

    def __init__(self, tokens=1, features=16, head="token"):
        super().__init__()
        self.patches = nn.Conv2d(3, features, 4, 4)
        self.first = nn.Parameter(torch.randn(1, tokens, features)) if tokens else None
        self.positions = nn.Parameter(torch.randn(1, tokens + 12, features))
        self.block = nn.TransformerEncoderLayer(features, 2, 32, dropout=0.0, batch_first=True)
        self.tokens, self.norm, self.head = tokens, nn.LayerNorm(features), nn.Linear(features, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        if self.tokens:
            x = torch.cat([self.first.expand(len(x), -1, -1), x], 1)
        x = self.norm(self.block(x + self.positions))
        return self.head(x[:, 0] if self.tokens else x.mean(1))


class Maps(nn.Module):
    """A table as large as the maps it is added to."""

    def __init__(self):
        super().__init__()
        self.stem, self.out = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1)
        self.positions = nn.Parameter(torch.randn(8, 6, 5))

    def forward(self, x):
        return self.out((self.stem(x) * self.positions).relu() + self.positions)


def worst(model, x, axes):
    return max(row.relative for row in equivariance_error(model, x, axes))


@pytest.mark.parametrize("axes", ["h", "hv"])
@pytest.mark.parametrize("tokens", [0, 1])
def test_mirrors_add_the_mirrored_table(tokens, axes):
    torch.manual_seed(0)
    model, x = Transformer(tokens), torch.randn(2, 3, 12, 16)
    new = randomise(equivariant(model, axes, example=x).double()).eval()
    assert worst(new, x.double(), axes) < 1e-12
    assert new.positions.shape == (1, tokens + 12, 16 // 2 ** len(axes))
    back = desymmetrize(new, example=x.double())
    assert torch.allclose(back(x.double()), new(x.double()), atol=1e-12)
    grid = back.positions[0, tokens:].unflatten(0, (3, 4))
    assert torch.equal(grid[..., 1], grid[..., 0].flip(1))
    assert torch.equal(back.positions[0, :tokens, 1], back.positions[0, :tokens, 0])


def test_representatives_start_from_their_own_numbers():
    torch.manual_seed(0)
    model = Transformer()
    new = equivariant(model, "h", example=torch.randn(2, 3, 12, 16))
    assert torch.equal(new.positions, model.positions[..., ::2])


def test_tables_of_maps_are_mirrored_and_learn():
    torch.manual_seed(0)
    x = torch.randn(2, 1, 6, 5)
    new = randomise(equivariant(Maps(), "hv", example=x).double())
    assert new.positions.shape == (2, 6, 5)
    optimizer = torch.optim.SGD(new.parameters(), 0.01)
    for _ in range(2):
        optimizer.zero_grad()
        new(x.double()).square().mean().backward()
        optimizer.step()
    assert worst(new, x.double(), "hv") < 1e-12
    again = equivariant(Maps(), "hv", example=x).double()
    again.load_state_dict(new.state_dict())
    assert torch.equal(again(x.double()), new(x.double()))


class Plain(nn.Module):
    """A table on what is handed out, which has no mirrors."""

    def __init__(self):
        super().__init__()
        self.stem, self.positions = nn.Conv2d(1, 8, 3, padding=1), nn.Parameter(torch.randn(1, 8, 6, 5))

    def forward(self, x):
        return self.stem(x) + self.positions


class Rows(nn.Module):
    """Numbers for every row of patches, which no sizes of maps explain."""

    def __init__(self):
        super().__init__()
        self.stem, self.table, self.out = nn.Conv2d(1, 8, 3), nn.Parameter(torch.randn(5, 8)), nn.Conv2d(8, 1, 1)

    def forward(self, x):
        y = self.stem(x).permute(0, 2, 3, 1)
        return self.out((y + self.table).permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            Plain(),
            "model: 'positions' is a table of positions for channels that are plain, because inputs or answers of the "
            "model are among them. Expected orbits. Leave such answers orbits with answers, or keep that part ordinary "
            "with keep.",
        ),
        (
            Rows(),
            "model: 'its forward' combines channels with 'table', which has other numbers than one for each channel "
            "(add). Expected parameters that know channels alone, or tables as large as the maps of orbits that they "
            "are combined with. Leave these out, or keep that part ordinary with keep.",
        ),
    ],
    ids=["plain", "rows"],
)
def test_other_tables_are_refused(model, sentence):
    x = torch.randn(1, 1, 6, 5) if isinstance(model, Plain) else torch.randn(1, 1, 9, 7)
    with pytest.raises(SymmetryError) as refusal:
        equivariant(model, "h", example=x)
    assert str(refusal.value) == sentence


def test_tables_on_answers_that_stay_orbits_are_mirrored():
    x = torch.randn(1, 1, 6, 5)
    new = equivariant(Plain(), "h", example=x, answers="orbits")
    assert new.positions.shape == (1, 4, 6, 5)
