"""What converted networks that draw random numbers are told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from steps_flax import Call, conv, through

from symmetric_layers import SymmetryError
from symmetric_layers.flax import equivariant


class Coder(nnx.Module):
    """Draws what it decodes: in every mode, in training mode alone, or with a key that it is given."""

    def __init__(self, when):
        self.means, self.decoded, self.out = conv(3, 4), conv(4, 4), conv(4, 3)
        self.rngs, self.when, self.norm = nnx.Rngs(0), when, nnx.BatchNorm(4, rngs=nnx.Rngs(0))

    def __call__(self, x, key=None):
        z = self.means(x)
        if self.when == "always" or (self.when == "training" and not self.norm.use_running_average):
            z = z + jax.random.normal(self.rngs() if key is None else key, z.shape)
        return self.out(nnx.relu(self.norm(self.decoded(z))))


X = jnp.asarray(np.random.RandomState(0).standard_normal((1, 8, 9, 3)))


@pytest.mark.parametrize(
    ("when", "example", "mode"),
    [
        ("always", X, "evaluation"),
        ("training", X, "training"),
        ("always", {"x": X, "key": jax.random.key(0)}, "evaluation"),
    ],
)
def test_random_numbers_are_named_as_what_breaks_the_law(when, example, mode):
    with pytest.raises(SymmetryError) as refusal:
        equivariant(Coder(when), "h", example=example)
    start = "model: the converted network breaks the law by "
    end = (
        f" in {mode} mode, first at 'decoded', and draws random numbers there: with others it answers the same picture "
        "otherwise. Expected at most 1e-04, of a network that draws none. Let it draw none in that mode, or pass "
        "measure=False and measure it by equivariance_error where it does not."
    )
    assert str(refusal.value).startswith(start)
    assert float(str(refusal.value)[len(start) :].split()[0]) > 1e-3
    assert str(refusal.value).endswith(end)


def test_what_is_random_and_obeys_is_no_matter():
    drawn = Call(lambda net, x: x * jax.random.bernoulli(net.rngs(), 0.5, (1, 1, 1, 1)), rngs=nnx.Rngs(0))
    equivariant(through(drawn), "h", example=X)
    scaled = Call(lambda net, x, key: net.out(net.own(x) * jax.random.normal(key, (1, 1, 1, 4))), own=conv(3, 4),
                  out=conv(4, 4))  # fmt: skip
    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        with pytest.raises(SymmetryError, match="and draws random numbers there: with others"):
            equivariant(scaled, "h", example=(X, key))
        new = equivariant(scaled, "h", example=(X, key), measure=False)
        assert type(new.own).__name__ == "SymmetricConv"
    quiet = nnx.MultiHeadAttention(2, 4, dropout_rate=0.5, decode=False, rngs=nnx.Rngs(0))
    equivariant(through(quiet, nnx.Dropout(0.5, rngs=nnx.Rngs(0))), "h", example=X)


def test_what_breaks_the_law_without_chance_is_said_as_before():
    drawn = Call(lambda net, x: x * jnp.arange(9.0)[:, None], rngs=nnx.Rngs(0))
    with pytest.raises(SymmetryError) as refusal:
        equivariant(through(drawn), "h", example=X)
    assert "in evaluation mode, first at 'layers.2'. Expected at most 1e-04. Write that part" in str(refusal.value)
