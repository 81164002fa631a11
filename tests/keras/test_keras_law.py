"""The law is measured as it is."""

import keras
import numpy as np
import pytest
from keras import ops

from symmetric_layers import SymmetryError
from symmetric_layers.keras import OrbitBatchNormalization, OrbitPool, SymmetricConv2D, equivariance_error

BANK = {"h": 4, "hv": 4}
X = np.random.RandomState(0).standard_normal((2, 7, 8, 3))


def layer(**more):
    return SymmetricConv2D(8, 3, symmetry=BANK, dtype="float64", **more)


def test_deviations_are_those_of_ordinary_code():
    host = keras.layers.Conv2D(4, 3, dtype="float64")
    found = equivariance_error(host, X, "vh")
    assert [(deviation.axis, deviation.output) for deviation in found] == [("h", ""), ("v", "")]
    straight = ops.convert_to_numpy(host(X))
    for axis, deviation in zip((2, 1), found, strict=True):
        expected = np.flip(straight, axis)
        error = np.abs(ops.convert_to_numpy(host(np.flip(X, axis).copy())) - expected).max()
        assert deviation.absolute == pytest.approx(error)
        assert deviation.relative == pytest.approx(error / np.abs(expected).max())


def test_of_orbits_those_are_measured_that_know_the_letter(tolerance):
    net = layer()
    for letter in "hv":  # 'h' orbits do not know 'v'
        (named,) = equivariance_error(net, X, letter, symmetry=BANK)
        (unnamed,) = equivariance_error(net, X, letter)
        assert named.absolute <= tolerance["float64"] < 1e-3 < unnamed.absolute
    deep = SymmetricConv2D(4, 3, symmetry={"h": 4}, in_symmetry=BANK, dtype="float64")
    (named,) = equivariance_error(deep, net(X), "h", in_symmetry=BANK, symmetry={"h": 4})
    assert named.absolute <= tolerance["float64"]
    (vector,) = equivariance_error(lambda x: ops.sum(net(x), (1, 2)), X, "v", symmetry=BANK)
    assert vector.absolute <= 100 * tolerance["float64"]  # sums over positions, in another order


def test_channels_may_come_first(tolerance):
    first = np.ascontiguousarray(np.moveaxis(X, -1, 1))
    net = keras.layers.Permute((3, 1, 2))
    full = layer()

    def model(x):
        return net(full(ops.transpose(x, (0, 2, 3, 1))))

    (named,) = equivariance_error(model, first, "h", symmetry=BANK, data_format="channels_first")
    assert named.absolute <= tolerance["float64"]


def test_every_output_is_measured_and_named():
    net, pool = layer(), OrbitPool(BANK, dtype="float64")
    found = equivariance_error(lambda x: {"map": net(x), "more": (ops.sum(pool(net(x)), (1, 2)), ops.sum(x))}, X, "h")
    assert [deviation.output for deviation in found] == ["map", "more.0", "more.1"]
    assert found[0].absolute > 1e-3
    assert max(found[1].absolute, found[2].absolute) < 1e-9
    (other,) = equivariance_error(lambda x: x[:, : 3 + int(x[0, 0, 0, 0] > x[0, -1, 0, 0])], X, "v")
    assert other.absolute == float("inf")
    with pytest.raises(SymmetryError) as refusal:
        equivariance_error(lambda x: {"left" if x[0, 0, 0, 0] > x[0, 0, -1, 0] else "right": x}, X, "h")
    assert str(refusal.value).startswith("model: the answer to the picture mirrored along 'h' has other parts (['")
    (broken,) = equivariance_error(lambda x: x * float("nan"), X, "h")
    assert broken.absolute == float("inf")


def test_measuring_leaves_the_model_as_it_was():
    norm = OrbitBatchNormalization(symmetry={"h": 2}, dtype="float64")
    model = keras.Sequential([keras.layers.Input((7, 8, 3)), norm, keras.layers.Dropout(0.5)])
    before = [ops.convert_to_numpy(variable.value) for variable in model.variables]
    (found,) = equivariance_error(model, X, "h", in_symmetry={"h": 2}, symmetry={"h": 2}, training=True)
    assert found.relative > 1e-3  # dropout
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(variable.value))


@pytest.mark.parametrize("shape", [(4,), (2, 3), (1, 2, 3, 4, 5, 6)])
def test_what_holds_no_pictures_is_refused(shape):
    with pytest.raises(SymmetryError) as refusal:
        equivariance_error(lambda x: x, np.zeros(shape), "h")
    assert str(refusal.value) == (
        f"x: a tensor of shape {shape} is no batch of pictures. Expected (batch, *positions, channels) with 1 to 3 "
        "positions. Add the axes that are missing."
    )
