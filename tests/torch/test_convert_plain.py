"""Channels that are to be ordinary inside a network: latents, codes, gates."""

import pytest
import torch
from test_convert_networks import randomise
from torch import nn

from symmetric_layers import SymmetryError
from symmetric_layers.torch import equivariance_error, equivariant


class Codes(nn.Module):
    """The nearest of a book of codes."""

    def __init__(self):
        super().__init__()
        self.book = nn.Embedding(16, 4)

    def forward(self, z):
        flat = z.permute(0, 2, 3, 1).reshape(-1, 4)
        nearest = self.book(torch.cdist(flat, self.book.weight).argmin(1)).reshape(z.permute(0, 2, 3, 1).shape)
        return z + (nearest.permute(0, 3, 1, 2) - z).detach()


class Autoencoder(nn.Module):
    def __init__(self, middle):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 4, 3, padding=1))
        self.middle = middle
        self.decoder = nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 3, 3, padding=1))

    def forward(self, x):
        return self.decoder(self.middle(self.encoder(x)))


def worst(model, x, axes="h"):
    return max(row.relative for row in equivariance_error(model, x, axes))


@pytest.mark.parametrize("middle", [nn.Identity(), Codes()], ids=["latents", "codes"])
def test_latents_are_ordinary_where_they_are_asked_to_be(middle):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 6)
    new = randomise(equivariant(Autoencoder(middle), "h", example=x, plain=["encoder"]).double()).eval()
    assert worst(new.encoder, x.double()) < 1e-12, "latents are maps like any other"
    assert worst(new, x.double()) < 1e-12
    assert worst(new.decoder, new.encoder(x.double()).detach()) < 1e-12
    assert type(new.encoder[2]).__name__ == "InvariantConv2d"
    assert type(new.decoder[0]).__name__ == "SymmetricConv2d"
    assert new.decoder[0]._plan.inputs is None


def test_without_it_latents_are_orbits():
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    new = equivariant(Autoencoder(nn.Identity()).double(), "h", example=x)
    assert worst(new.encoder, x) > 0.1
    told = []
    equivariant(Autoencoder(nn.Identity()), "h", example=x.float(), plain="encoder.2", report=told.append)
    assert told == ["'encoder.2': plain, as asked for."]


@pytest.mark.parametrize(
    ("plain", "sentence"),
    [
        (
            ["latents"],
            "plain: 'latents' is no module of the model. Expected names out of model.named_modules(). Use such.",
        ),
        (
            ["decoder.1.deep"],
            "plain: 'decoder.1.deep' is no module of the model. Expected names out of model.named_modules(). Use such.",
        ),
    ],
)
def test_what_is_no_module_is_refused(plain, sentence):
    with pytest.raises(SymmetryError) as refusal:
        equivariant(Autoencoder(nn.Identity()), "h", example=torch.randn(1, 3, 8, 6), plain=plain)
    assert str(refusal.value) == sentence


class Unreached(Autoencoder):
    def forward(self, x):
        return self.decoder(self.encoder(x))


def test_what_makes_no_channels_is_refused():
    model = Unreached(nn.Conv2d(4, 4, 1))
    with pytest.raises(SymmetryError) as refusal:
        equivariant(model, "h", example=torch.randn(1, 3, 8, 6), plain=["middle"])
    assert str(refusal.value) == (
        "plain: 'middle' makes no channels that are followed, with this example. Expected a module whose answer has "
        "some. Name the layer that makes them."
    )


def test_a_book_of_codes_says_what_it_needs():
    with pytest.raises(SymmetryError, match="make what it is given ordinary with plain"):
        equivariant(Autoencoder(Codes()), "h", example=torch.randn(2, 3, 8, 6))
