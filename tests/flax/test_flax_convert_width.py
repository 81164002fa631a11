"""Wider networks, and networks that start as the mirror average of a trained one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from converted_flax import SMALL, answers, errors, made, weights, wild
from flax import nnx

from symmetric_layers import SymmetryError
from symmetric_layers.flax import equivariant


def average(model, x, axes):
    """The answers of a model, averaged over all mirrored inputs, maps mirrored back."""
    total = []
    for number in range(2 ** len(axes)):
        flipped = [{"h": -2, "v": -3, "z": -4}[letter] for bit, letter in enumerate(axes) if number >> bit & 1]
        found = [jnp.flip(one, flipped) if one.ndim == x.ndim else one for one in answers(model, jnp.flip(x, flipped))]
        total = [one + other for one, other in zip(total, found, strict=True)] if total else found
    return [one / 2 ** len(axes) for one in total]


class Chain(nnx.Module):
    """Grouped, depthwise, transposed and dilated layers, slopes for channels, two answers of which one is a vector."""

    def __init__(self, rngs):
        more = {"rngs": rngs, "param_dtype": jnp.float64}
        self.first = nnx.Conv(2, 8, (3, 3), feature_group_count=2, **more)
        self.norm = nnx.BatchNorm(8, **more)
        self.slopes = nnx.Param(jnp.linspace(0.1, 0.9, 8))
        self.second = nnx.Conv(8, 16, (3, 3), 2, feature_group_count=2, **more)
        self.alone = nnx.Conv(16, 16, (3, 3), kernel_dilation=2, feature_group_count=16, **more)
        self.up = nnx.ConvTranspose(16, 4, (2, 2), (2, 2), transpose_kernel=True, **more)
        self.hidden, self.head = nnx.Linear(4, 8, **more), nnx.Linear(8, 2, **more)
        self.out = nnx.Conv(4, 3, (3, 3), **more)

    def __call__(self, x):
        x = self.norm(self.first(x))
        x = jnp.where(x > 0, x, x * self.slopes[...])
        x = jnp.tanh(self.up(self.alone(nnx.relu(self.second(x)))))
        return self.out(x), self.head(nnx.relu(self.hidden(x.mean((1, 2)))))


def chain():
    return wild(Chain(nnx.Rngs(0))), "hv", jnp.asarray(np.random.RandomState(1).standard_normal((1, 9, 8, 2)))


def network(name):
    return chain() if name == "chain" else made(name)


@pytest.mark.parametrize("name", ["chain", "residual"])
def test_a_network_starts_as_the_mirror_average_of_a_trained_one(name):
    model, axes, x = network(name)
    new = equivariant(model, axes, example=x, width=2 ** len(axes), init="average", measure=False)
    for expected, answer in zip(average(model, x, axes), answers(new, x), strict=True):
        np.testing.assert_allclose(answer, expected, rtol=0, atol=SMALL * np.abs(expected).max())
    apart = zip(answers(model, x), answers(new, x), strict=True)
    assert max(np.abs(one - other).max() / np.abs(other).max() for one, other in apart) > 1e-3
    assert max(errors(new, axes, x)) < SMALL


def test_where_no_width_holds_the_average_that_is_said():
    model, axes, x = made("unet")
    with pytest.raises(SymmetryError, match=r"^width: 1 has no room for the average over the mirrors of 'hv'"):
        equivariant(model, "hv", example=x, init="average")
    with pytest.raises(SymmetryError, match=r"^init: 'average' is off by .* no norm over several channels"):
        equivariant(model, axes, example=x, width=2 ** len(axes), init="average", measure=False)
    with pytest.raises(SymmetryError, match=r"^init: 'mean' is no choice here. Expected 'own' or 'average'"):
        equivariant(model, "hv", example=x, init="mean")
    with pytest.raises(SymmetryError, match=r"^width: 0 is no usable count"):
        equivariant(model, "hv", example=x, width=0)


@pytest.mark.parametrize("name", ["chain", "unet"])
def test_a_wider_network_obeys_and_is_drawn_by_the_rngs(name):
    model, axes, x = network(name)
    new, again, other = (equivariant(model, axes, example=x, width=3, rngs=nnx.Rngs(seed)) for seed in (1, 1, 2))
    for one, same, apart in zip(*map(answers, (new, again, other), [x] * 3), strict=True):
        np.testing.assert_array_equal(one, same)
        assert np.abs(one - apart).max() > 1e-3
    assert max(errors(wild(new), axes, x)) < SMALL
    assert weights(new) > 3 * weights(equivariant(model, axes, example=x, measure=False))


@pytest.mark.parametrize("name", ["chain", "residual"])
def test_wider_filters_are_drawn_as_the_host_draws_them(name):
    model, axes, x = network(name)
    new = equivariant(model, axes, example=x, width=8, measure=False)
    drawn = 0
    for path, module in nnx.iter_modules(new):
        if isinstance(module, (nnx.Conv, nnx.ConvTranspose, nnx.Linear)) and module.kernel.size > 200:
            kernel = module.full_kernel() if hasattr(module, "full_kernel") else module.kernel[...]
            turned = getattr(module, "transpose_kernel", False)
            inputs = kernel.shape[-1] if turned else kernel.shape[-2]
            fan = inputs * np.prod(kernel.shape[:-2])
            assert 0.8 < float(kernel.std() * np.sqrt(fan)) < 1.25, path
            drawn += 1
    assert drawn > 2


@pytest.mark.parametrize(("name", "axes"), [("residual", "hv"), ("unet", "h")])
def test_as_many_parameters_as_before(name, axes):
    model, _, x = made(name)
    said = []
    new = equivariant(model, axes, example=x, width="parameters", report=said.append, measure=False)
    assert 0.75 < weights(new) / weights(model) < 1.25
    assert said[0].endswith(f"{weights(new)} parameters, and {weights(model)} before.")
    assert [one.shape for one in answers(new, x)] == [one.shape for one in answers(model, x)]


class Numbered(nnx.Module):
    """Knows its channels by number; with more of them it has other rows to its answer, or none at all."""

    def __init__(self, last, rngs):
        self.first = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.last = nnx.Conv(4, 2, (1, 1), rngs=rngs) if last else lambda x: x.mean(-1)

    def __call__(self, x):
        return self.last(self.first(x).mean((1, 2)).reshape(-1, 1, 1, 4))


@pytest.mark.parametrize("last", [True, False])
def test_what_knows_its_channels_by_number_is_refused(last):
    model, x = Numbered(last, nnx.Rngs(0)), jnp.ones((1, 6, 6, 1))
    equivariant(model, "h", example=x)
    with pytest.raises(SymmetryError) as refusal:
        equivariant(model, "h", example=x, width=2)
    assert str(refusal.value).startswith("width: 2 makes other channels than the model's own code expects (")
    assert ("it answers [(2, 1, 1)] in the place of [(1, 1, 1)]" in str(refusal.value)) is not last


def test_masked_filters_are_not_made_wider():
    x = jnp.ones((1, 6, 6, 1))
    masked = nnx.Conv(4, 4, (3, 3), mask=jnp.ones((3, 3, 4, 4)), rngs=nnx.Rngs(0))
    model = nnx.Sequential(nnx.Conv(1, 4, (3, 3), rngs=nnx.Rngs(0)), masked, nnx.Conv(4, 2, (1, 1), rngs=nnx.Rngs(0)))
    with pytest.raises(SymmetryError, match="width: 2 makes other filters than those that are masked"):
        equivariant(model, "h", example=x, width=2)


def test_layers_that_share_a_variable_go_on_sharing_it():
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(nnx.Conv(1, 4, (3, 3), rngs=rngs), nnx.Conv(4, 4, (3, 3), rngs=rngs),
                           nnx.Conv(4, 4, (3, 3), rngs=rngs), nnx.Conv(4, 2, (1, 1), rngs=rngs))  # fmt: skip
    model.layers[2].kernel = model.layers[1].kernel
    x = jax.random.normal(jax.random.key(0), (1, 7, 7, 1))
    for how in ({"width": 3}, {"width": 2, "init": "average"}):
        new = equivariant(model, "h", example=x, **how)
        assert new.layers[2].kernel is new.layers[1].kernel


class Scaled(nnx.Module):
    """A scale for every channel, a number of its own, and (in single precision alone) an array."""

    def __init__(self, single, rngs):
        self.first, self.scale = nnx.Conv(3, 8, (3, 3), rngs=rngs), nnx.Param(jnp.linspace(1.0, 2.0, 8))
        self.norm, self.out = nnx.GroupNorm(8, 8, rngs=rngs), nnx.Linear(8, 2, rngs=rngs)
        self.count, self.single = nnx.Variable(3), nnx.data(np.float32([1, 2, 3]) if single else None)

    def __call__(self, x):
        x = x if self.single is None else jax.lax.mul(x, jnp.broadcast_to(jnp.asarray(self.single), x.shape))
        return self.out((nnx.relu(self.norm(self.first(x))) * self.scale).mean((1, 2)))


@pytest.mark.parametrize("single", [False, True])
def test_scales_numbers_and_single_precision_are_made_wider(single):
    model = Scaled(single, nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (1, 8, 9, 3), jnp.float32)
    said = []
    equivariant(model, "h", example=x, width="parameters", report=said.append)
    assert len(said) == 1
    new = equivariant(model, "h", example=x, width=2, init="average")
    np.testing.assert_allclose(new(x), (model(x) + model(jnp.flip(x, 2))) / 2, atol=1e-5)
    assert new.norm.num_groups == 16
    assert new.count.get_value() == 3


def test_widths_that_groups_do_not_divide_are_passed_over():
    rngs = nnx.Rngs(0)
    chain = [nnx.Conv(1, 16, (3, 3), rngs=rngs), nnx.GroupNorm(16, 4, rngs=rngs), nnx.Conv(16, 16, (3, 3), rngs=rngs)]
    model = nnx.Sequential(*chain, nnx.Conv(16, 2, (1, 1), rngs=rngs))
    x = jnp.ones((1, 8, 9, 1))
    new = equivariant(model, "h", example=x, width="parameters")
    assert new.layers[1].plan.filters % 8 == 0
    assert new(x).shape == (1, 8, 9, 2)


def test_heads_are_drawn_as_the_host_draws_them():
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(nnx.Conv(1, 64, (3, 3), rngs=rngs), lambda x: x.mean((1, 2)), nnx.Linear(64, 50, rngs=rngs))
    model.layers[2].bias[...] = jnp.ones(50, jnp.float32)
    new = equivariant(model, "hv", example=jnp.ones((1, 8, 9, 1)), width=2, measure=False)
    assert 0.9 < float(new.layers[2].kernel[...].std() * np.sqrt(128)) < 1.1
    np.testing.assert_array_equal(new.layers[2].bias[...], 0)
