"""Channels that are to be ordinary inside a network: latents."""

import pytest
from conditions_flax import drawn, exact
from converted_flax import SMALL, errors, wild
from flax import nnx
from steps_flax import Call

from symmetric_layers import SymmetryError
from symmetric_layers.flax import equivariant

GIVEN = {"x": drawn(1, 6, 7, 3)}


def autoencoder():
    def through(net, x):
        return net.out(nnx.swish(net.decoder(net.latents(nnx.swish(net.encoder(x))))))

    return Call(through, encoder=exact(3, 8), latents=exact(8, 4), decoder=exact(4, 8), out=exact(8, 3))


def latents(net, x):
    return net.latents(nnx.swish(net.encoder(x)))


def test_latents_are_ordinary_where_they_are_asked_to_be():
    told = []
    new = wild(equivariant(autoencoder(), "h", example=GIVEN, plain="latents", report=told.append))
    assert max(errors(new, "h", GIVEN)) < SMALL
    assert type(new.latents).__name__ == "InvariantConv"
    assert max(errors(Call(latents, encoder=new.encoder, latents=new.latents), "h", GIVEN)) < SMALL
    assert told == ["'latents': plain, as asked for."]
    orbits = wild(equivariant(autoencoder(), "h", example=GIVEN))
    assert max(errors(Call(latents, encoder=orbits.encoder, latents=orbits.latents), "h", GIVEN)) > 0.1


@pytest.mark.parametrize(
    ("plain", "sentence"),
    [
        ("code", "plain: 'code' is no module of the model. Expected names like 'encoder.layers.0'. Use such."),
        (
            "",
            "plain: '' makes no channels by itself, with this example. Expected a convolution or a linear layer. Name "
            "the last one in it.",
        ),
    ],
)
def test_what_makes_no_channels_is_refused(plain, sentence):
    with pytest.raises(SymmetryError) as refusal:
        equivariant(autoencoder(), "h", example=GIVEN, plain=[plain])
    assert str(refusal.value) == sentence
