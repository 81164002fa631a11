"""What conversion refuses, in whole sentences: which layer it is, what is wrong with it, and the way out."""

import warnings

import keras
import pytest
from keras import layers

from symmetric_layers import SymmetryError
from symmetric_layers.keras import equivariant

NAMED = {"padding": "same", "name": "grouped"}


def chain(*steps, shape=(9, 8, 3)):
    return keras.Sequential([layers.Input(shape), *steps])


def refusal_of(model, axes="h", **how):
    """The sentence; a warning beside it counts as a fault."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with pytest.raises(SymmetryError) as refusal:
            equivariant(model, axes, **how)
    return str(refusal.value)


@pytest.mark.parametrize("measure", [True, False])
@pytest.mark.parametrize(
    ("axes", "channels", "groups", "filters", "size"),
    [("h", 8, 8, 16, 2), ("hv", 8, 4, 16, 4), ("h", 6, 2, 8, 2)],
)
@pytest.mark.parametrize("last", [False, True])
def test_groups_that_tear_orbits_apart_are_refused_by_name(axes, channels, groups, filters, size, last, measure):
    steps = [layers.Conv2D(channels if axes == "h" else 8, 3), layers.Conv2D(filters, 3, groups=groups, **NAMED)]
    model = chain(*steps, *([] if last else [layers.Conv2D(2, 3)]))
    assert refusal_of(model, axes, measure=measure) == (
        f"model: 'grouped' has {channels} input channels in {groups} groups, which tear orbits of {axes!r} apart. "
        f"Expected whole orbits in every group, a multiple of {size} channels. Use fewer groups, or keep that part "
        "ordinary with keep."
    )


def test_groups_hold_whole_orbits_where_the_network_is_wide_enough():
    model = chain(layers.Conv2D(8, 3), layers.Conv2D(16, 3, groups=8), layers.Conv2D(2, 3))
    new = equivariant(model, "h", width=2)
    assert new.layers[1].groups == 8
    assert equivariant(model, "h", width="parameters").layers[1].groups == 8
