"""Whole models: to networks that obey the law, to mirrored banks, and back to ordinary layers."""

import warnings

import jax
import jax.numpy as jnp
import networks_flax
import numpy as np
import optax
import pytest
from converted_flax import SMALL, alike, errors, made, weights, wild
from flax import nnx

import symmetric_layers.flax as ours
from symmetric_layers import SymmetryError
from symmetric_layers.flax import desymmetrize, equivariant, symmetrize


@pytest.mark.parametrize("name", networks_flax.ALL)
def test_one_line_converts_and_the_law_holds(name):
    model, axes, x = made(name)
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    new = wild(equivariant(model, axes, example=x))
    assert max(errors(model, axes, x)) > 1e-2
    assert max(errors(new, axes, x)) < SMALL
    assert weights(new) < weights(model) * (0.75 if axes == "h" else 0.5)
    jax.tree.map(np.testing.assert_array_equal, before, nnx.to_pure_dict(nnx.state(model, nnx.Param)))


@pytest.mark.parametrize("name", networks_flax.ALL)
def test_the_way_back_answers_alike_with_ordinary_layers_alone(name):
    model, axes, x = made(name)
    if name in ("residual", "line"):  # at sizes at which their pools are their own mirror images
        x = x[:, :17, :17] if name == "residual" else x[:, :10]
    new = wild(equivariant(model, axes, example=x, measure=False))
    plain = desymmetrize(new, example=x)
    alike(new, plain, x)
    nodes = [node for _, node in nnx.iter_graph(plain)]
    assert not [node for node in nodes if type(node).__module__.startswith("symmetric_layers")]
    assert not [key for node in nodes if isinstance(node, nnx.Module) for key in vars(node) if "plan" in str(key)]


def test_orbits_start_from_what_stood_where_their_representatives_stand():
    model, axes, x = made("residual")
    model.train()
    new = equivariant(model, axes, example=x, measure=False)
    assert not new.blocks[0].drop.deterministic  # in the mode of the old one
    pairs = [(model.stem, new.stem), (model.blocks[1].norm, new.blocks[1].norm), (model.hidden, new.hidden)]
    for old, one in pairs:
        for name in ("kernel", "bias", "scale", "mean", "var"):
            if getattr(old, name, None) is not None:
                first = np.asarray(getattr(old, name)[...])[..., ::4]
                np.testing.assert_array_equal(first, getattr(one, name)[...])
    np.testing.assert_array_equal(model.head.kernel[::4], new.head.kernel[...])
    assert new.stem.kernel_shape == new.stem.kernel.shape
    sorts = [type(one) for one in (new.stem, new.pool, new.blocks[1].norm, new.blocks[1].way, new.hidden, new.head)]
    assert sorts[:4] == [ours.SymmetricConv, ours.Mirrored, ours.OrbitBatchNorm, ours.SymmetricConv]
    assert [sort.__name__ for sort in sorts[4:]] == ["SymmetricLinear", "OrbitLinear"]


def test_numbers_that_orbits_share_are_stored_once_and_learn():
    model, axes, x = made("convnext")
    new = equivariant(model, axes, example=x, measure=False)
    scale = new.scale
    assert isinstance(scale, nnx.Param)
    assert (scale.get_raw_value().shape, scale.shape, scale[...].shape) == ((4,), (8,), (8,))
    np.testing.assert_array_equal(scale[...], np.repeat(np.asarray(model.scale[::2]), 2))
    scale[...] = jnp.arange(8.0)
    np.testing.assert_array_equal(scale[...], [0, 0, 2, 2, 4, 4, 6, 6])
    assert float(scale[3]) == 2
    gradient = nnx.jit(nnx.grad(lambda net: (net(x) ** 2).sum()))(new)
    optimizer = nnx.Optimizer(new, optax.adam(1e-3), wrt=nnx.Param)
    before = np.asarray(scale.get_raw_value())
    optimizer.update(new, gradient)
    assert np.abs(np.asarray(new.scale.get_raw_value()) - before).min() > 0
    assert max(errors(wild(new), axes, x)) < SMALL
    again = nnx.clone(new)
    np.testing.assert_array_equal(again.scale[...], new.scale[...])
    state = nnx.state(new)
    again.scale.set_value(jnp.zeros(4))
    nnx.update(again, state)
    np.testing.assert_array_equal(again.scale[...], new.scale[...])
    written = nnx.to_pure_dict(state)
    assert written["scale"].shape == (4,)
    again.scale[...] = jnp.zeros(8)
    state = nnx.state(again)
    nnx.replace_by_pure_dict(state, written)
    nnx.update(again, state)
    np.testing.assert_array_equal(again.scale[...], new.scale[...])


def test_a_converted_network_learns_and_goes_on_obeying():
    model, axes, x = made("residual")
    new = equivariant(model, axes, example=x, measure=False)
    new.train()
    optimizer = nnx.Optimizer(new, optax.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(net, optimizer):
        loss, gradient = nnx.value_and_grad(lambda net: ((net(x) - 1) ** 2).mean())(net)
        optimizer.update(net, gradient)
        return loss

    losses = [float(step(new, optimizer)) for _ in range(8)]
    assert losses[-1] < losses[0]
    new.eval()
    assert max(errors(new, axes, x)) < SMALL


def test_mirrored_banks_take_the_place_of_convolutions():
    model, _, x = made("unet")
    new = symmetrize(model, {"hv": "50%"}, where=lambda name, conv: name != "out")
    convs = [new.down[0], new.down[1], new.middle, new.up["0"], new.up["1"], new.joined[1], new.deep]
    assert [layer.plan.stored for layer in convs] == [5, 10, 10, 10, 5, 5, 2]
    assert type(new.out) is nnx.Conv
    assert type(new.norms[0]) is nnx.GroupNorm
    first = list(new.middle.plan.firsts)
    np.testing.assert_array_equal(model.middle.kernel[..., jnp.array(first)], new.middle.kernel[...])
    np.testing.assert_array_equal(model.middle.bias[jnp.array(first)], new.middle.bias[...])
    alike(desymmetrize(new), new, x)


CONVOLUTIONS = [
    {"kernel_size": (3, 3), "strides": 2},
    {"kernel_size": (2, 3)},
    {"kernel_size": (3, 4), "strides": (2, 3), "padding": "VALID"},
    {"kernel_size": (2, 3), "kernel_dilation": (1, 2), "feature_group_count": 2},
    {"kernel_size": (3, 3), "padding": ((0, 2), (1, 0)), "strides": 2, "input_dilation": (1, 2)},
]
TRANSPOSED = [
    {"kernel_size": (3, 3), "strides": (2, 2)},
    {"kernel_size": (2, 2), "strides": (3, 3), "padding": "VALID"},
    {"kernel_size": (3, 4), "strides": (2, 1), "transpose_kernel": True},
    {"kernel_size": (3, 2), "strides": (2, 2), "padding": ((2, 1), (0, 2)), "kernel_dilation": (2, 1)},
]


@pytest.mark.parametrize(("place", "how"), list(enumerate([*CONVOLUTIONS, *TRANSPOSED])), ids=str)
def test_layers_on_mirrored_grids_have_an_ordinary_form(place, how):
    sort, size = [("symmetric", (8, 9)), ("invariant", (9, 8))][place % 2]
    kind = "ConvTranspose" if how in TRANSPOSED else "Conv"
    more = {**how, "rngs": nnx.Rngs(0), "param_dtype": jnp.float64}
    if sort == "symmetric":
        bank = {"h": 8, "hv": 8}
        layer = getattr(ours, f"Symmetric{kind}")(8, 16, symmetry=bank, in_symmetry={"hv": 8}, grid="mirrored", **more)
    else:
        layer = getattr(ours, f"Invariant{kind}")(8, 4, in_symmetry={"hv": 8}, **more)
    wild(layer)
    x = jnp.asarray(np.random.RandomState(0).standard_normal((1, *size, 8)))
    plain = desymmetrize(layer, example=x)
    assert type(plain) is getattr(nnx, kind)
    alike(layer, plain, x)


def test_what_depends_on_the_size_needs_an_example():
    model, axes, x = made("residual")
    new = equivariant(model, axes, example=x, measure=False)
    with pytest.raises(SymmetryError) as refusal:
        desymmetrize(new)
    assert str(refusal.value) == (
        "model: 'pool' sees a function in the mirror, which has an ordinary form only where it is its own mirror "
        "image. Expected an example. Pass an input as example."
    )
    with pytest.raises(SymmetryError) as refusal:
        desymmetrize(new, example=x)
    assert str(refusal.value) == (
        "model: 'pool', a function in the mirror, has no ordinary form at pictures of (2, 9, 10, 8). Expected sizes at "
        "which it is its own mirror image. Pass an example of such a size."
    )
    with pytest.raises(SymmetryError) as refusal:
        desymmetrize(new.stem)
    assert str(refusal.value) == (
        "model: '' has a mirrored grid, whose ordinary form depends on the size. Expected an example. Pass an input as "
        "example."
    )


def test_what_is_kept_is_ordinary_and_the_rest_obeys():
    model, axes, x = made("unet")
    told = []
    new = equivariant(model, axes, example=x, keep=["deep"], report=told.append)
    assert type(new.deep) is nnx.ConvTranspose
    assert type(new.middle) is ours.InvariantConv  # what is kept reads its answer
    assert type(new.joined[0]) is ours.SymmetricConv
    (sentence,) = told
    assert sentence.startswith("With 'deep' ordinary, the largest relative deviation is ")
    assert float(sentence.split()[-1].rstrip(".")) > 1e-3
    lists = equivariant(made("residual")[0], "h", example=made("residual")[2], keep="blocks", measure=False)
    assert {type(block.first) for block in lists.blocks} == {nnx.Conv}


def test_what_is_kept_and_breaks_the_law_warns_whoever_asks_for_no_report():
    model, axes, x = made("unet")
    keep = ["deep", "up.0"]
    with pytest.warns(UserWarning, match="Pass report=") as told:
        equivariant(model, axes, example=x, keep=keep)
    (one,) = told
    start = "With 'deep', 'up.0' ordinary, the network breaks the law: the largest relative deviation is "
    assert str(one.message).startswith(start)
    assert float(str(one.message)[len(start) :].split(". ")[0]) > 1e-3
    assert str(one.message).endswith(". Pass report= to read this instead of being warned.")
    assert one.filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        equivariant(model, axes, example=x, keep=keep, report=lambda sentence: None)
        equivariant(model, axes, example=x, keep=keep, measure=False)
        lawful = nnx.Sequential(*[nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)), nnx.Conv(4, 2, (3, 3), rngs=nnx.Rngs(0))])
        kept = Pooled(lawful, nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
        equivariant(kept, axes, example=jnp.ones((1, 6, 7, 3)), keep=["head"])


class Pooled(nnx.Module):
    """A head that reads one number for each channel obeys whatever it is."""

    def __init__(self, body, head):
        self.body, self.head = body, head

    def __call__(self, x):
        return self.head(self.body(x).mean((1, 2)))


def test_what_the_example_does_not_reach_is_told():
    model, axes, x = made("volume")
    told = []
    new = equivariant(model, axes, example={"scan": x["scan"]}, report=told.append)
    assert told == ["'time' was not reached by the example, and stays ordinary."]
    assert type(new.time) is nnx.Linear


def test_other_wrong_arguments_are_refused():
    model, _, x = made("unet")
    for bad, sentence in [
        (lambda: equivariant(model, "z", example=x), "axes: 'z' is no kind of mirror in 2-D."),
        (lambda: equivariant(model, "h", example=x[0, 0]), "example: [(12, 1)] holds no pictures."),
        (lambda: equivariant(model, "h", example=x, keep=["nothing"]), "keep: 'nothing' is no module of the model."),
        (lambda: equivariant(model, "h", example=x, measure=1), "measure: 1 is no bool."),
        (lambda: equivariant(nnx.relu, "h", example=x), "is no module. Expected an nnx.Module."),
        (lambda: equivariant(model, "h", example=x[:, :7]), "example: the model does not accept [(2, 7, 12, 1)] in"),
        (lambda: symmetrize(model, {"hv": 6}), "cannot have this symmetry. symmetry: 'hv': 6 does not fit 2 filters."),
        (lambda: symmetrize(model, {"h": 2}, where=lambda name, conv: False), "no ordinary convolution is left in it."),
        (lambda: desymmetrize(model), "model: no layer of this package is in it."),
        (lambda: desymmetrize(ours.OrbitPool({"h": 4})), "model: '', OrbitPool, has no ordinary form."),
    ]:
        with pytest.raises(SymmetryError) as refusal:
            bad()
        assert sentence in str(refusal.value)
