"""Networks that read a whole map in a row: a linear layer there is a convolution with a kernel as large as the map."""

import jax.numpy as jnp
import numpy as np
import pytest
from converted_flax import SMALL, alike, errors, weights, wild
from flax import nnx
from steps_flax import Call, conv

from symmetric_layers import SymmetryError
from symmetric_layers.flax import InvariantConv, SymmetricConv, desymmetrize, equivariant

EXACT = {"param_dtype": jnp.float64}


def linear(inner, outer, **more):
    return nnx.Linear(inner, outer, rngs=nnx.Rngs(3), **{**EXACT, **more})


def flat(x):
    return x.reshape(x.shape[0], -1)


class Digits(nnx.Module):
    """What every tutorial begins with."""

    def __init__(self, height, width, window=2):
        self.first, self.second = conv(1, 8, **EXACT), conv(8, 16, **EXACT)
        self.norm = nnx.BatchNorm(8, rngs=nnx.Rngs(0), **EXACT)
        self.drop = nnx.Dropout(0.3, rngs=nnx.Rngs(1))
        sides = ((window // 2 * (window % 2),) * 2,) * 2
        self.pool = lambda x: nnx.avg_pool(x, (window, window), (2, 2), sides)
        self.hidden, self.head = linear(-(-height // 2) * -(-width // 2) * 16, 12), linear(12, 5)

    def __call__(self, x):
        x = self.pool(nnx.relu(self.norm(self.first(x))))
        x = self.drop(nnx.silu(flat(nnx.relu(self.second(x)))))
        return self.head(nnx.relu(self.drop(self.hidden(x))))


def picture(*shape):
    return jnp.asarray(np.random.RandomState(0).standard_normal(shape))


CASES = {
    "a hidden layer": (Digits(8, 10), "hv", (2, 8, 10, 1)),
    "odd": (Digits(7, 9, 3), "hv", (2, 7, 9, 1)),
    "one letter": (Digits(8, 9, 3), "h", (2, 8, 9, 1)),
    "to the answer": (nnx.Sequential(conv(3, 8, **EXACT), nnx.relu, flat, linear(160, 3)), "hv", (2, 4, 5, 3)),
    "to the answer, along one letter": (nnx.Sequential(conv(3, 8), flat, nnx.tanh, linear(160, 3, use_bias=False)), "v",
                                        (2, 4, 5, 3)),
    "a line": (nnx.Sequential(nnx.Conv(3, 8, 3, rngs=nnx.Rngs(0)), flat, linear(40, 4), nnx.relu, linear(4, 2)), "h",
               (2, 5, 3)),
    "a volume": (nnx.Sequential(nnx.Conv(1, 8, (3, 3, 3), rngs=nnx.Rngs(0)), flat, linear(192, 8), linear(8, 2)), "hvz",
                 (1, 2, 3, 4, 1)),
    "one row": (nnx.Sequential(conv(3, 8, **EXACT), flat, linear(40, 3)), "h", (1, 1, 5, 3)),
    "a picture": (nnx.Sequential(flat, linear(60, 8), nnx.relu, linear(8, 8), nnx.relu, linear(8, 2), Call(
        lambda net, x: x + 0 * net.own(jnp.zeros((1, 4, 5, 3))).mean(), own=nnx.Sequential(conv(3, 4), conv(4, 4)))),
        "hv", (2, 4, 5, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_maps_that_are_read_in_a_row_obey(name):
    model, axes, shape = CASES[name]
    x = picture(*shape)
    new = wild(equivariant(model, axes, example=x, measure=name in ("a hidden layer", "a picture")))
    assert max(errors(new, axes, x)) < SMALL
    assert weights(new) < weights(model)
    assert "FlatLinear" in {type(module).__name__ for _, module in nnx.iter_modules(new)}
    plain = desymmetrize(new, example=x)
    assert not [module for _, module in nnx.iter_modules(plain) if type(module).__module__.startswith("symmetric")]
    alike(new, plain, x)


def test_such_a_layer_is_a_convolution_as_large_as_the_map():
    x = picture(2, 4, 5, 3)
    body = conv(3, 8, **EXACT)
    hidden, head = linear(160, 12), linear(160, 3)
    both = Call(lambda net, x: (net.last(net.hidden(x)), net.head(x)), hidden=hidden, head=head, last=linear(12, 2))
    model = nnx.Sequential(body, flat, both)
    new = wild(equivariant(model, "hv", example=x, measure=False))
    seen, whole = new.layers[0](x), {"hv": "100%"}
    more = {"kernel_size": (4, 5), "padding": "VALID", "in_symmetry": whole, "rngs": nnx.Rngs(0), **EXACT}
    other = SymmetricConv(8, 12, symmetry=whole, **more)
    own = new.layers[2].hidden
    other.kernel[...], other.bias[...] = own.kernel[...].reshape(4, 5, 8, 3), own.bias[...]
    np.testing.assert_allclose(own(flat(seen)), other(seen)[:, 0, 0], atol=1e-12)
    other, own = InvariantConv(8, 3, **more), new.layers[2].head
    other.kernel[...], other.bias[...] = own.kernel[...].reshape(4, 5, 2, 3), own.bias[...]
    np.testing.assert_allclose(own(flat(seen)), other(seen)[:, 0, 0], atol=1e-12)
    started = equivariant(model, "hv", example=x, measure=False).layers[2]
    np.testing.assert_array_equal(started.hidden.kernel[...], hidden.kernel[:, ::4])
    np.testing.assert_array_equal(started.head.kernel[...], head.kernel[::4])
    assert set(nnx.to_pure_dict(nnx.state(started.hidden))) == {"kernel", "bias"}


def test_wider_networks_read_maps_in_a_row():
    model, axes, shape = CASES["a hidden layer"]
    x = picture(*shape)
    for width in (3, "parameters"):
        new = equivariant(model, axes, example=x, width=width, measure=False)
        kernel = new.hidden.full_kernel()
        assert kernel.shape == (new.hidden.in_features, new.hidden.out_features)
        assert 0.9 < float(kernel.std() * np.sqrt(kernel.shape[0])) < 1.1
        assert max(errors(wild(new), axes, x)) < SMALL
    assert 0.7 < weights(new) / weights(model) < 1.4


@pytest.mark.parametrize("name", ["a hidden layer", "to the answer"])
def test_a_network_that_reads_maps_in_a_row_starts_as_the_mirror_average(name):
    model, axes, shape = CASES[name]
    model, x = wild(nnx.clone(model)), picture(*shape)
    new = equivariant(model, axes, example=x, width=4, init="average", measure=False)
    seen = [model(jnp.flip(x, flipped)) for flipped in ((), (1,), (2,), (1, 2))]
    np.testing.assert_allclose(new(x), sum(seen) / 4, atol=1e-11)
    assert float(jnp.abs(seen[0] - seen[1]).max()) > 1e-3


REFUSED = {
    "rows of tokens": lambda x: flat(x.reshape(x.shape[0], -1, 8)),
    "channels first": lambda x: flat(jnp.moveaxis(x, -1, 1)),
    "columns": lambda x: x.reshape(2, 4, 40).mean(1).repeat(4, -1),
    "and more": lambda x: jnp.concatenate([flat(x[:, :2]), flat(x[:, 2:])], -1),
    "cut": lambda x: flat(jnp.concatenate([x, x], 1))[:, :160],
    "ordered": lambda x: jnp.sort(flat(x), -1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_rows_of_numbers_are_refused(name):
    model = nnx.Sequential(conv(3, 8), REFUSED[name], linear(160, 3))
    with pytest.raises(SymmetryError) as refusal:
        equivariant(model, "hv", example=picture(2, 4, 5, 3), measure=False)
    assert str(refusal.value).startswith(
        "model: 'layers.2', Linear, reads channels that 'reshape' has mixed with positions. Expected channels alone."
    )


def test_one_layer_reads_maps_of_one_size():
    both = Call(lambda net, x: (net.own(flat(x)), net.own(flat(x.swapaxes(1, 2)))), own=linear(160, 3))
    with pytest.raises(SymmetryError, match=r"^model: 'layers.1.own', Linear, reads channels that 'reshape' has mixed"):
        equivariant(nnx.Sequential(conv(3, 8), both), "h", example=picture(2, 4, 5, 3), measure=False)
