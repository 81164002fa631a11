"""Networks that are told something beside the picture, pick out channels, and compute in single precision inside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conditions_flax import drawn, embed, exact, linear, told
from converted_flax import SMALL, alike, errors, weights, wild
from flax import nnx
from steps_flax import Call, tokens

from symmetric_layers import SymmetryError
from symmetric_layers.flax import desymmetrize, equivariant


@pytest.mark.parametrize("axes", ["h", "hv"])
def test_a_unet_that_is_told_times_words_and_classes_obeys(axes):
    model, given = told()
    new = wild(equivariant(model, axes, example=given, measure=False))
    assert max(errors(new, axes, given)) < 1e-6  # the host takes its softmax of float32 numbers
    assert weights(new) < weights(model) / 2 ** len(axes) * 1.1
    assert new.labels.embedding.get_value().shape == (10, 8 // 2 ** len(axes))


def labelled(net, x, label):
    return net.out(nnx.swish(net.own(x) + net.label(label)[:, None, None, :]))


def added(net, x, label):
    return net.out(net.own(x) + net.label(label))


def network(features=8, **parts):
    return Call(labelled, own=exact(3, features), label=embed(10, features), out=exact(features, 2), **parts)


GIVEN = {"x": drawn(1, 6, 7, 3), "label": jnp.array([4])}


def test_a_class_that_is_added_to_orbits_is_stored_once_for_each():
    model = network()
    new = equivariant(model, "hv", example=GIVEN)
    np.testing.assert_array_equal(model.label.embedding[:, ::4], new.label.embedding[...])
    assert (new.label.features, new.label.full_embedding().shape) == (8, (10, 8))
    np.testing.assert_array_equal(new.label.attend(jnp.ones((2, 8))), jnp.ones((2, 8)) @ new.label.full_embedding().T)
    assert max(errors(wild(new), "hv", GIVEN)) < SMALL
    plain = desymmetrize(new, example=GIVEN)
    assert type(plain.label) is nnx.Embed
    alike(new, plain, GIVEN)


def test_lookups_grow_with_the_network():
    model = network()
    assert equivariant(model, "h", example=GIVEN, width=2, measure=False).label.full_embedding().shape == (10, 16)
    model = wild(Call(added, own=exact(3, 8), label=embed(10, 8), out=exact(8, 2)))
    new = equivariant(model, "h", example=GIVEN, width=2, init="average")
    assert new.label.embedding.get_value().shape == (10, 8)
    assert weights(equivariant(model, "h", example=GIVEN, width="parameters", measure=False)) / weights(model) > 0.8


def test_lookups_that_meet_no_pictures_stay_as_they_are():
    def step(net, x, label):
        words = net.words(label[:, None])
        words = words + net.mixes(words)
        return net.out(net.own(x) + net.leads(words)[:, :, None, :])

    model = Call(step, own=exact(3, 8), words=embed(10, 5), mixes=linear(5, 5), leads=linear(5, 8), out=exact(8, 2))
    new = equivariant(model, "h", example=GIVEN)
    assert (type(new.words), type(new.mixes)) == (nnx.Embed, nnx.Linear)
    kept = equivariant(network(), "h", example=GIVEN, keep=["label"], measure=False)
    assert type(kept.label) is nnx.Embed


def test_lookups_that_cannot_be_orbits_are_refused_by_name():
    with pytest.raises(SymmetryError) as refusal:
        equivariant(network(6), "hv", example=GIVEN)
    assert str(refusal.value).startswith("model: 'label' has 6 output channels, which are no whole orbits of 'hv'.")
    model = Call(
        lambda net, x: net.out(net.label(net.own(x).argmax(-1))), own=exact(3, 4), label=embed(4, 4), out=exact(4, 2)
    )
    with pytest.raises(SymmetryError) as refusal:
        equivariant(model, "h", example=GIVEN["x"])
    assert str(refusal.value) == (
        "model: 'label', Embed, reads labels that are made of orbits of channels. Expected labels that know nothing of "
        "channels. Choose between ordinary ones, or keep that part ordinary with keep, which leads out before."
    )


# channels that are picked out


def weighed(net, x, pick):
    first, second = net.first(x), net.second(x)
    gates = nnx.softmax(net.gates(jnp.concatenate([first, second], -1)))
    return net.out(pick(gates, 0) * first + pick(gates, 1) * second)


PICKS = {
    "kept": lambda gates, index: gates[..., index : index + 1],
    "indexed": lambda gates, index: gates[..., index][..., None],
    "indexed behind": lambda gates, index: jnp.expand_dims(gates[:, :, :, index], -1),
    "split": lambda gates, index: jnp.split(gates, 2, -1)[index],
    "rows": lambda gates, index: jnp.stack(jnp.unstack(gates[..., index], axis=1), 1)[..., None],
    "summed": lambda gates, index: gates[..., index : index + 1].sum(-1, keepdims=True),
    "by turns": lambda gates, index: jnp.unstack(gates.transpose(3, 0, 1, 2), axis=0)[index][..., None],
    "by a number": lambda gates, index: jax.lax.dynamic_slice_in_dim(gates, index, 1, 3),
    "taken": lambda gates, index: jnp.take(gates, index, -1)[..., None],
    "iterated": lambda gates, index: list(jnp.moveaxis(gates, -1, 0))[index][..., None],
}  # fmt: skip


@pytest.mark.parametrize("way", PICKS)
def test_a_channel_that_is_picked_out_is_an_ordinary_one(way):
    parts = {"first": exact(3, 8), "second": exact(3, 8), "gates": exact(16, 2), "out": exact(8, 2)}
    model = Call(lambda net, x: weighed(net, x, PICKS[way]), **parts)
    new = equivariant(model, "h", example=GIVEN["x"], measure=False)
    assert (type(new.gates).__name__, type(new.first).__name__) == ("InvariantConv", "SymmetricConv")
    assert max(errors(wild(new), "h", GIVEN["x"])) < SMALL


def test_a_channel_that_a_layer_reads_alone_is_an_ordinary_one():
    model = Call(lambda net, x: net.out(net.second(net.first(x)[..., 1:2])), first=nnx.Sequential(
        exact(3, 8), exact(8, 4)), second=exact(1, 4), out=exact(4, 2))  # fmt: skip
    new = equivariant(model, "h", example=GIVEN["x"], measure=False)
    assert max(errors(wild(new), "h", GIVEN["x"])) < SMALL


# single precision inside


def normed(net, x):
    y = net.own(x)
    seen = y.astype(jnp.float32)
    seen = seen * jax.lax.rsqrt((seen * seen).mean(-1, keepdims=True) + 1e-6)
    return net.out(seen.astype(y.dtype) * net.scale)


def looked(net, x):
    y = net.own(x)
    seen = tokens(y)
    weights = nnx.softmax((seen @ jnp.swapaxes(net.key(seen), 1, 2)).astype(jnp.float32)).astype(y.dtype)
    return net.out(y + (weights @ seen).reshape(y.shape))


SINGLE = {"normed": normed, "looked": looked}


@pytest.mark.parametrize("way", SINGLE)
def test_single_precision_inside_is_no_breach_and_hides_none(way):
    def network(step):
        scale = nnx.Param(jnp.ones(8, jnp.float64))
        return Call(step, own=exact(3, 8), key=linear(8, 8), scale=scale, out=exact(8, 2))

    def breaks(net, x):
        return SINGLE[way](net, x + 1e-2 * jnp.arange(7.0)[:, None])

    x = GIVEN["x"]
    assert max(errors(wild(equivariant(network(SINGLE[way]), "hv", example=x)), "hv", x)) < 1e-6
    with pytest.raises(SymmetryError, match="the converted network breaks the law by"):
        equivariant(network(breaks), "hv", example=x)
