"""Linear layers over several axes, and the attention of the host that is made of them."""

import jax.numpy as jnp
import numpy as np
import pytest
from converted_flax import SMALL, alike, errors, weights, wild
from flax import nnx
from steps_flax import Call, conv, tokens

from symmetric_layers import SymmetryError
from symmetric_layers.flax import desymmetrize, equivariant

EXACT = {"param_dtype": jnp.float64}


def attention(heads=2, **more):
    return nnx.MultiHeadAttention(heads, 16, decode=False, rngs=nnx.Rngs(0), **{**EXACT, **more})


def general(inner, outer, **more):
    return nnx.LinearGeneral(inner, outer, rngs=nnx.Rngs(1), **{**EXACT, **more})


def network(step, out=None):
    return nnx.Sequential(conv(3, 16, **EXACT), step, conv(16, 2, **EXACT) if out is None else out)


def picture():
    return jnp.asarray(np.random.RandomState(0).standard_normal((2, 4, 5, 3)))


def looks(net, x):
    return x + net.own(tokens(x)).reshape(x.shape)


def first_token(net, x):
    first = jnp.broadcast_to(net.token[...], (2, 1, 16))
    return net.own(jnp.concatenate([first, tokens(x)], 1))[:, 0]


def through_heads(net, x):
    return net.back(nnx.gelu(net.there(x)))


ATTENTIONS = {
    "of itself": lambda: network(Call(looks, own=attention())),
    "of rows": lambda: network(attention(4)),
    "normed": lambda: network(Call(looks, own=attention(normalize_qk=True, dropout_rate=0.5))),
    "without biases": lambda: network(Call(looks, own=attention(use_bias=False))),
    "few keys": lambda: network(Call(looks, own=attention(4, num_kv_heads=2))),
    "wide within": lambda: network(Call(looks, own=attention(qkv_features=32))),
    "of a token": lambda: network(Call(first_token, own=attention(), token=nnx.Param(jnp.ones((1, 1, 16)))),
                                  nnx.Linear(16, 3, rngs=nnx.Rngs(0), **EXACT)),
    "of a token, to the answer": lambda: nnx.Sequential(conv(3, 16, **EXACT), Call(
        first_token, own=attention(out_features=3), token=nnx.Param(jnp.ones((1, 1, 16))))),
}  # fmt: skip
GENERAL = {
    "on channels": lambda: network(general(16, 16)),
    "to heads and back": lambda: network(Call(through_heads, there=general(16, (2, 4, 4)), back=general(
        (2, 4, 4), 16, axis=(-3, -2, -1)))),
    "a head": lambda: nnx.Sequential(conv(3, 16, **EXACT), lambda x: x.mean((1, 2)), general(16, (2, 3))),
    "from numbers": lambda: network(Call(lambda net, x: x * net.own(x.mean((1, 2, 3))[:, None])[:, None, None],
                                         own=general(1, 16, use_bias=False))),
}  # fmt: skip


def einsum(how, kernel, bias=None):
    return nnx.Einsum(how, kernel, bias, rngs=nnx.Rngs(1), **EXACT)


EINSUMS = {
    "sums of channels": lambda: network(einsum("...c,cd->...d", (16, 16), (16,))),
    "of letters": lambda: network(einsum("bhwc, dc -> bhwd", (16, 16))),
    "to heads that stand first, and back": lambda: network(Call(through_heads, there=einsum(
        "bhwc,ncd->bhwnd", (4, 16, 8), (4, 8)), back=einsum("...nd,dnc->...c", (8, 4, 16)))),
    "from the picture": lambda: nnx.Sequential(einsum("...c,cd->...d", (3, 16), (16,)), nnx.relu, conv(16, 2, **EXACT)),
    "a head that is a sum": lambda: network(lambda x: x.mean((1, 2)), einsum("bc,cd->bd", (16, 3), (3,))),
}  # fmt: skip


@pytest.mark.parametrize("way", [*ATTENTIONS, *GENERAL, *EINSUMS])
def test_linear_layers_over_several_axes_obey(way):
    model = {**ATTENTIONS, **GENERAL, **EINSUMS}[way]()
    axes = "h" if way == "of rows" else "hv"
    new = wild(equivariant(model, axes, example=picture(), measure=False))
    single = way in ATTENTIONS  # the host takes its softmax of float32 numbers
    assert max(errors(new, axes, picture())) < (1e-6 if single else SMALL)
    assert weights(new) < weights(model) / (1.5 if axes == "h" else 2.5)
    sorts = {type(module).__name__ for _, module in nnx.iter_modules(new)}
    assert sorts & {"SymmetricLinearGeneral", "OrbitLinearGeneral", "SymmetricEinsum", "OrbitEinsum"}
    assert not sorts & {"LinearGeneral", "Einsum"}
    plain = desymmetrize(new, example=picture())
    assert not [module for _, module in nnx.iter_modules(plain) if type(module).__module__.startswith("symmetric")]
    alike(new, plain, picture())


def test_orbits_of_heads_start_from_what_stood_where_their_representatives_stand():
    model = ATTENTIONS["of a token, to the answer"]()
    own, new = model.layers[1].own, equivariant(model, "h", example=picture(), measure=False).layers[1].own
    np.testing.assert_array_equal(own.query.kernel[..., ::2], new.query.kernel[...])
    np.testing.assert_array_equal(own.query.bias[..., ::2], new.query.bias[...])
    np.testing.assert_array_equal(own.out.kernel[:, ::2], new.out.kernel[...])
    assert new.query.full_kernel().shape == own.query.kernel.shape


@pytest.mark.parametrize("way", ["of itself", "few keys", "to heads and back", "to heads that stand first, and back"])
def test_attention_grows_with_the_network(way):
    model = {**ATTENTIONS, **GENERAL, **EINSUMS}[way]()
    new = equivariant(model, "h", example=picture(), width=2, measure=False)
    single = way in ATTENTIONS
    kernel = (new.layers[1].own.query if single else new.layers[1].there).full_kernel()
    read = 32 if way.startswith("to heads that") else kernel.shape[0]
    assert 0.8 < float(kernel.std() * np.sqrt(read)) < 1.25
    assert max(errors(wild(new), "h", picture())) < (1e-6 if single else SMALL)
    assert weights(equivariant(model, "h", example=picture(), width="parameters", measure=False)) > weights(model) * 0.8


def test_a_network_starts_as_the_mirror_average_through_linear_layers():
    model = wild(nnx.Sequential(conv(3, 16, **EXACT), general(16, (2, 8)), nnx.relu, general((2, 8), 8, axis=(-2, -1)),
                                nnx.relu, einsum("...c,dc->...d", (8, 8), (8,)), nnx.relu, lambda x: x.mean((1, 2)),
                                general(8, (2, 3))))  # fmt: skip
    x = picture()
    new = equivariant(model, "h", example=x, width=2, init="average", measure=False)
    np.testing.assert_allclose(new(x), (model(x) + model(jnp.flip(x, 2))) / 2, atol=SMALL * 100)


def test_attention_looks_at_words():
    def step(net, x, words):
        seen = net.first(x)
        return net.out(seen + net.looks(tokens(seen), words).reshape(seen.shape))

    model = Call(step, first=conv(3, 16, **EXACT), looks=attention(in_kv_features=5), out=conv(16, 2, **EXACT))
    x = {"x": picture(), "words": jnp.asarray(np.random.RandomState(1).standard_normal((2, 7, 5)))}
    new = wild(equivariant(model, "hv", example=x, measure=False))
    assert new.looks.key.kernel.get_value().shape == (5, 2, 2)
    assert max(errors(new, "hv", x)) < 1e-6


REFUSED = {
    "small heads": (attention(8), "'layers.1.key' has 16 output channels in 8 groups, which are no whole orbits of "
                    "'hv'. Expected a multiple of 32. Use such a number, or keep that part ordinary with keep."),
    "positions": (Call(lambda net, x: net.own(x).reshape(2, 1, 1, 16), own=general((4, 5, 16), 16, axis=(1, 2, 3))),
                  "'layers.1.own', LinearGeneral, reads channels that 'reshape' has mixed with positions. Expected "
                  "channels alone. Take the mean over all positions first, or keep that part ordinary with keep."),
    "sums over rows": (einsum("bhwc,wv->bhvc", (5, 5)),
                       "'layers.1', Einsum, has no form for orbits of channels. Expected nnx.Conv, nnx.Linear "
                       "and norms. Use these, or keep that part ordinary with keep."),
    "sums that are told": (Call(lambda net, x: net.own(x, "bhwc,dc->bhwd"), own=einsum("bhwc,cd->bhwd", (16, 16))),
                           "'layers.1.own' weighs orbits of channels with the variable 'layers.1.own.kernel'. "
                           "Expected nnx.Conv, nnx.Linear, or one number for each channel. Use these, or keep that "
                           "part ordinary with keep."),
    "other axes": (Call(lambda net, x: net.own(x).mean(2)[:, :, None], own=general(4, 16, axis=1)),
                   "'layers.1.own', LinearGeneral, has no form for orbits of channels. Expected nnx.Conv, nnx.Linear "
                   "and norms. Use these, or keep that part ordinary with keep."),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_linear_layers_over_other_axes_are_refused(name):
    step, sentence = REFUSED[name]
    with pytest.raises(SymmetryError) as refusal:
        equivariant(network(step), "hv", example=picture(), measure=False)
    assert str(refusal.value) == f"model: {sentence}"
