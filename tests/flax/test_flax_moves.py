"""Where channels are after each step of JAX."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from symmetric_layers.flax.convert.follow import Follower
from symmetric_layers.flax.convert.steps import crooked_along
from symmetric_layers.flax.convert.traced import Traced

X, Y, Z = (2, 4, 5, 6), (2, 7, 6), (3, 6)


def followed(function, *shapes):
    """The marks of the answers; the follower, and the marks of the inputs."""
    follower = Follower({}, "h", lambda name: False)
    jaxpr = jax.make_jaxpr(function)(*[jax.ShapeDtypeStruct(shape, float) for shape in shapes])
    follower.follow(Traced(jaxpr, [], {}))
    marks = follower._marks
    return [marks.of(var) for var in jaxpr.jaxpr.outvars], marks, [marks.of(var) for var in jaxpr.jaxpr.invars]


def batched(x, y):
    """Products of the pixels of pictures with those of lines, channel by channel."""
    return lax.dot_general(x, y, (((), ()), ((0, 3), (0, 2))))


STANDS = {
    "moved": (lambda x: jnp.moveaxis(x, 3, 1), 1),
    "turned": (lambda x: x.transpose(3, 0, 2, 1), 0),
    "tokens": (lambda x: x.reshape(2, 20, 6), 2),
    "flat": (lambda x: x.reshape(-1, 6), 1),
    "more axes": (lambda x: x.reshape(2, 2, 2, 5, 6), 4),
    "behind it": (lambda x: x[..., None], 3),
    "before it": (lambda x: x[:, None], 4),
    "turned and flat": (lambda x: lax.reshape(x, (2, 6, 20), (0, 3, 2, 1)), 1),
    "medians": (lambda x: jnp.median(x, axis=(1, 2), keepdims=True), 3),
    "squeezed": (lambda x: x[:, :1, :1].squeeze((1, 2)), 1),
    "one pixel": (lambda x: x[:, 0, 0], 1),
    "means": (lambda x: x.mean((1, 2)), 1),
    "the largest kept": (lambda x: x.max(1, keepdims=True), 3),
    "where the largest is": (lambda x: x.argmax(1), 2),
    "broadcast": (lambda x: jnp.broadcast_to(x.mean((1, 2))[:, None, None], (2, 4, 5, 6)), 3),
    "stacked": (lambda x: jnp.stack([x, x], 1), 4),
    "stacked behind": (lambda x: jnp.stack([x, x], 4), 3),
    "side by side": (lambda x: jnp.concatenate([x, x], 1), 3),
    "more channels": (lambda x: jnp.concatenate([x, x], 3), 3),
    "repeated pixels": (lambda x: jnp.repeat(x, 2, 1), 3),
    "unstacked pixels": (lambda x: jnp.unstack(x, axis=1)[2], 2),
    "tiled pixels": (lambda x: lax.tile(x, (1, 2, 1, 1)), 3),
    "taken": (lambda x: jnp.take(x, jnp.array([2, 0]), 1), 3),
    "taken by the batch": (lambda x: jnp.take_along_axis(x, jnp.zeros((2, 1, 1, 1), int), 1), 3),
    "one that is chosen": (lambda x: lax.dynamic_index_in_dim(x, 1, 1, keepdims=False), 2),
    "ordered": (lambda x: jnp.sort(x, 2), 3),
    "the best": (lambda x: lax.top_k(x.transpose(0, 3, 1, 2), 2)[0], 1),
    "summed up": (lambda x: jnp.cumsum(x, 1), 3),
    "flipped": (lambda x: x[:, ::-1], 3),
    "padded": (lambda x: jnp.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0))), 3),
    "with more zeros": (lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, 0), (2, 4))), 3),
    "written into": (lambda x: x.at[:, 0].set(0.0), 3),
    "pooled": (lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"), 3),
    "halved": (lambda x: jnp.split(x, 2, 3)[1], 3),
    "weighed pixels": (lambda x: jnp.einsum("bhwc,wv->bhvc", x, jnp.ones((5, 9))), 3),
    "weighed from the left": (lambda x: jnp.einsum("wv,bhwc->vbhc", jnp.ones((5, 9)), x), 3),
    "resized": (lambda x: jax.image.resize(x, (2, 8, 3, 6), "bilinear"), 3),
    "nearest": (lambda x: jax.image.resize(x, (2, 8, 3, 6), "nearest"), 3),
    "compiled": (lambda x: jax.jit(lambda y: y.transpose(3, 0, 1, 2))(x), 0),
    "activated": (lambda x: jax.nn.gelu(jax.nn.relu(x)), 3),
    "chosen": (lambda x: jnp.where(x > 0, x, 0.0), 3),
    "heads": (lambda x: x.reshape(2, 4, 5, 2, 3), 4),
    "heads of three sorts": (lambda x: x.reshape(2, 4, 5, 3, 1, 2)[..., 0, :, :], 4),
    "heads that are split": (lambda x: x.reshape(2, 20, 6, 1).reshape(2, 20, 3, 2).reshape(2, 20, 3, 1, 2), 4),
    "heads put together": (lambda x: (x.reshape(2, 20, 2, 3) * 2).sum(1).reshape(2, 6), 1),
    "heads in other groups": (lambda x: x.reshape(2, 20, 3, 2).reshape(2, 20, 2, 3), 3),
    "heads first": (lambda x: x.reshape(2, 20, 2, 3).swapaxes(1, 2).reshape(4, 20, 3), 2),
    "one head of all": (lambda x: jnp.take(x.reshape(2, 20, 2, 3), 1, 2), 2),
    "pixels of heads": (lambda x: x.reshape(2, 20, 2, 3)[:, 0].reshape(2, 6), 1),
    "copies as channels": (lambda x: jnp.broadcast_to(x[..., None, :], (2, 4, 5, 3, 6)).reshape(2, 4, 5, 18), 3),
    "batches as channels": (lambda x: x.mean((1, 2)).reshape(-1), 0),
    "weighed by heads": (lambda x: jnp.einsum("bngc,bmgc->bgnm", *[x.reshape(2, 20, 2, 3)] * 2)[
        ..., None] * x.reshape(2, 20, 2, 3).swapaxes(1, 2)[:, :, :, None], 4),
    "nothing": (lambda x: x[:0].reshape(0, 20, 6), 2),
}  # fmt: skip


@pytest.mark.parametrize("name", STANDS)
def test_channels_stand_where_they_were_sent(name):
    function, dim = STANDS[name]
    (mark,), marks, (seen,) = followed(function, X)
    assert (mark.dim, mark.lost) == (dim, "")
    assert marks.sets.find(mark.source) == marks.sets.find(seen.source)


LOST = {
    "mixed": (lambda x: x.reshape(2, -1), "reshape"),
    "shuffled": (lambda x: x.reshape(2, 4, 5, 2, 3).swapaxes(3, 4).reshape(2, 4, 5, 6), "a shuffle of channels"),
    "heads among positions": (lambda x: x.reshape(2, 4, 5, 2, 3).transpose(0, 1, 3, 2, 4).reshape(2, 8, 5, 3),
                              "reshape"),
    "heads in a batch of windows": (lambda x: x.reshape(2, 4, 5, 2, 3).swapaxes(2, 3).reshape(16, 5, 3), "reshape"),
    "positions as heads": (lambda x: x.reshape(2, 4, 5, 2, 3).reshape(2, 4, 30), "reshape"),
    "which channel": (lambda x: x.argmax(3), "argmax"),
    "neighbours": (lambda x: jnp.cumsum(x, 3), "cumsum"),
    "backwards": (lambda x: lax.rev(x, (3,)), "rev"),
    "tiled": (lambda x: lax.tile(x, (1, 1, 1, 2)), "tile"),
    "every second": (lambda x: x[..., ::2], "slice"),
    "picked": (lambda x: x[..., jnp.array([1, 0])], "an index"),
    "chosen": (lambda x: lax.dynamic_slice_in_dim(x, 1, 2, 3), "dynamic_slice"),
    "ordered": (lambda x: jnp.sort(x, 3), "sort"),
    "the best": (lambda x: lax.top_k(x, 2)[0], "top_k"),
    "windows": (lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 1, 1, 3), (1, 1, 1, 1), "SAME"), "reduce_window_sum"),
    "spread": (lambda x: lax.pad(x, 0.0, [(0, 0, 0)] * 3 + [(0, 0, 1)]), "pad"),
    "cut": (lambda x: lax.pad(x, 0.0, [(0, 0, 0)] * 3 + [(-1, 0, 0)]), "pad"),
    "cut behind": (lambda x: lax.pad(x, 0.0, [(0, 0, 0)] * 3 + [(0, -1, 0)]), "pad"),
    "a product": (lambda x: x @ jnp.ones((6, 6)), "dot_general"),
    "a convolution": (lambda x: lax.conv(x, jnp.ones((4, 4, 1, 1)), (1, 1), "SAME"), "conv_general_dilated"),
    "a loop": (lambda x: lax.fori_loop(0, 2, lambda index, y: y + 1, x), "scan"),
    "a case": (lambda x: lax.cond(x.mean() > 0, lambda y: y, lambda y: -y, x), "cond"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOST)
def test_channels_that_cannot_be_followed_are_lost_by_name(name):
    function, how = LOST[name]
    (mark,), marks, (seen,) = followed(function, X)
    assert (mark.dim, mark.lost) == (None, how)
    assert marks.sets.find(mark.source) == marks.sets.find(seen.source)


def test_what_has_no_channels_belongs_to_nobody():
    for function in (lambda x: x.mean(3), lambda x: jnp.linalg.norm(x, axis=-1), lambda x: x.sum(),
                     lambda x: jnp.einsum("bhwc,bvwc->bhv", x, x)):  # fmt: skip
        (mark,), marks, (seen,) = followed(function, X)
        assert (mark.dim, mark.lost) == (None, "")
        assert marks.sets.find(mark.source) != marks.sets.find(seen.source)


@pytest.mark.parametrize(
    ("function", "shapes", "dim"),
    [
        (lambda x, y: x + y.mean(1)[:, None, None], (X, Y), 3),
        (lambda x, y: x * y[:, :4, None], (X, Y), 3),
        (lambda x, z: jnp.where(x > z[0], x, z[1]), (X, Z), 3),
        (batched, (X, Y), 1),
        (lambda y, x: batched(x, y), (Y, X), 1),
        (lambda x, y: lax.dynamic_update_slice(x, y[:, :4, None], (0, 0, 1, 0)), (X, Y), 3),
        (lambda x, y: jnp.concatenate([x, y[:, :4, None]], 2), (X, Y), 3),
    ],
)
def test_channels_that_meet_are_arranged_alike(function, shapes, dim):
    (mark,), marks, seen = followed(function, *shapes)
    assert (mark.dim, mark.lost) == (dim, "")
    assert {marks.sets.find(one.source) for one in seen} == {marks.sets.find(mark.source)}


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: jnp.einsum("bhwc,bvd->bhwvcd", x, y),  # channels of one beside those of the other
        lambda x, y: x[:, 0] @ jnp.swapaxes(y, 1, 2)[:, :, :5],  # channels of one with positions of the other
    ],
)
def test_channels_that_miss_each_other_are_lost(function):
    (mark,), _, _ = followed(function, (2, 4, 5, 6), (2, 7, 6))
    assert mark.dim is None
    assert mark.lost in ("dot_general", "")


def test_one_number_for_all_channels_is_a_plain_one():
    def function(x, y):
        return x * y[:, :4, None, :1] + x * jnp.broadcast_to(y[:, :4, None, :1], (2, 4, 1, 6))

    (mark,), marks, (first, second) = followed(function, X, Y)
    assert mark.dim == 3
    assert marks.sets.find(first.source) != marks.sets.find(second.source)


def test_cuts_are_noted():
    def function(x):
        return [x[..., 1:5], *jnp.split(x, [2], 3), jnp.pad(x, [(0, 0)] * 3 + [(3, 0)]), x.reshape(40, 2, 3)]

    _, marks, _ = followed(function, X)
    assert [channel for _, _, channel in marks._cuts] == [1, 5, 2, 6, 3, 0, 3]


def test_channels_on_different_axes_do_not_fit():
    _, marks, _ = followed(lambda x: x + jnp.moveaxis(x, 3, 1), (2, 4, 4, 4))
    assert str(marks._faults[0][1]) == (
        "model: 'its call' reads channels that cannot be followed through 'an exchange of axes'. Expected channels "
        "that are moved, joined or combined one by one. Write that part otherwise, or keep it ordinary with keep."
    )


@pytest.mark.parametrize(
    ("function", "kinds"),
    [
        (lambda x: x[:, 1:], "v"),
        (lambda x: x[:, :, 1:-1], ""),
        (lambda x: x[:, ::2], "v"),
        (lambda x: x[:, :, ::2], ""),
        (lambda x: x[:, ::3], ""),
        (lambda x: jnp.pad(x, ((0, 0), (1, 1), (0, 1), (0, 0))), "h"),
        (lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"), "h"),
        (lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 3, 1), (1, 1, 1, 1), "SAME"), "v"),
        (lambda x: lax.reduce_window(
            x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 3, 1), "VALID", window_dilation=(1, 2, 1, 1)), "v"),
        (lambda x: jnp.cumsum(x, 1), ""),
    ],
)  # fmt: skip
def test_what_lies_otherwise_in_the_mirror_is_seen(function, kinds):
    jaxpr = jax.make_jaxpr(function)(jnp.zeros(X)).jaxpr
    found = {letter for eqn in _all(jaxpr) for letter in "hv" if crooked_along(eqn, eqn.invars[0].aval.shape, letter)}
    assert found == set(kinds)


def _all(jaxpr):
    for eqn in jaxpr.eqns:
        inner = [getattr(value, "jaxpr", None) for value in eqn.params.values()]
        found = [value for value in inner if value is not None and hasattr(value, "eqns")]
        yield from _all(found[0]) if found else [eqn]
