"""Parts without a form for orbits that make everything around them ordinary: they are named, not their neighbours."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from steps_flax import Call, conv, through

from symmetric_layers import SymmetryError
from symmetric_layers.flax import equivariant

X = jnp.ones((1, 8, 9, 3))


class Own(nnx.Conv):
    """A convolution that does more than its host."""

    def __call__(self, x):
        return super().__call__(x) * 2


class Stack(nnx.Module):
    """Layers in a scan."""

    def __init__(self):
        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def made(rngs):
            return nnx.Conv(4, 4, (3, 3), rngs=rngs)

        self.stem, self.layers, self.out = conv(3, 4), made(nnx.Rngs(0)), conv(4, 2)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def step(x, layer):
            return nnx.relu(layer(x))

        return self.out(step(self.stem(x), self.layers))


STOPS = {
    "a scan": (Stack(), X, "out", "'nnx.scan' in 'its call'"),
    "a layer of one's own": (nnx.Sequential(Own(3, 4, (3, 3), rngs=nnx.Rngs(0)), conv(4, 2)), X, "layers.1",
                             "the variable 'layers.0.kernel' in 'layers.0'"),
    "a product of one's own": (nnx.Sequential(Call(lambda net, x: x @ net.mixes[...], mixes=nnx.Param(
        jnp.ones((3, 4)))), conv(4, 2)), X, "layers.1", "the variable 'layers.0.mixes' in 'layers.0'"),
    "einsum": (nnx.Sequential(nnx.Einsum("bhwc,hcd->bhwd", (8, 3, 4), rngs=nnx.Rngs(0)), conv(4, 2)), X, "layers.1",
               "'layers.0', Einsum"),
}  # fmt: skip


@pytest.mark.parametrize("name", STOPS)
def test_what_makes_everything_ordinary_is_named(name):
    model, example, layer, part = STOPS[name]
    with pytest.raises(SymmetryError) as refusal:
        equivariant(model, "h", example=example)
    assert str(refusal.value) == (
        f"model: {layer!r} has no orbits on either side, for its channels meet {part}, which has no form for orbits. "
        "Expected an nnx.Conv or nnx.Linear between that and orbits. Put one there, or keep both ordinary with keep."
    )


def test_one_layer_alone_is_blamed_for_itself():
    for model in (nnx.Sequential(conv(3, 4)), nnx.Sequential(conv(3, 4), lambda x: x * jax.nn.sigmoid(x))):
        with pytest.raises(SymmetryError) as refusal:
            equivariant(model, "h", example=X)
        assert str(refusal.value) == (
            "model: 'layers.0' reads a picture and gives an answer, with no orbits between. Expected two layers at "
            "least, one into orbits and one out of them. Add one, or keep it ordinary with keep."
        )


def test_weights_are_named_by_where_they_stand():
    step = Call(lambda net, x: net.own(x), own=Own(4, 4, (3, 3), rngs=nnx.Rngs(0)))
    with pytest.raises(SymmetryError, match=r"'layers.1.own' weighs orbits of channels with the variable"):
        equivariant(through(step), "h", example=X)


@pytest.mark.parametrize("wrapper", [nnx.WeightNorm, nnx.SpectralNorm])
def test_wrappers_that_write_filters_are_named(wrapper):
    model = through(wrapper(conv(4, 4), rngs=nnx.Rngs(0)), conv(4, 4))
    with pytest.raises(SymmetryError) as refusal:
        equivariant(model, "h", example=X)
    assert str(refusal.value) == (
        f"model: 'layers.1', {wrapper.__name__}, writes the filters of its layer anew in every call. Expected layers "
        "that keep their filters. Take it off, or keep that part ordinary with keep."
    )
    new = equivariant(model, "h", example=X, keep=["layers.1"], measure=False)
    names = [type(layer).__name__ for layer in new.layers]
    assert names == ["Conv", wrapper.__name__, "SymmetricConv", "InvariantConv"]
