"""The five promises, and the golden numbers, kept by the Keras layers on every backend."""

import pytest
from cases import conv_cases, covering, name_of, transpose_cases
from contract import ConvContract, GoldenContract, RefusalContract
from keras_face import BACKEND, KerasFace

import symmetric_layers.keras as layers


def host_takes(case):
    """What `keras.layers` itself refuses, or answers differently from backend to backend, is left out."""
    if max(case.stride) > 1 and max(case.dilation) > 1:
        return False
    if case.padding == "causal":
        return case.rank == 1
    if not case.transposed:
        return True
    if BACKEND == "tensorflow" and max(case.dilation) > 1:
        return False  # not implemented on the CPU
    reach = [d * (k - 1) + 1 for k, d in zip(case.kernel, case.dilation, strict=True)]
    if case.padding == "same" and case.output_padding is not None:
        return all(r % 2 or (case.output_padding and s > 1) for r, s in zip(reach, case.stride, strict=True))
    return True


CONV = conv_cases(paddings=["valid", "same", "causal"], modes=["zeros"], groups=[1, 2], possible=host_takes)
TRANSPOSE = transpose_cases(paddings=["valid", "same"], groups=[1], output_paddings=[None, 0, 1], possible=host_takes)


CASES = covering(CONV + TRANSPOSE) if BACKEND == "jax" else CONV + TRANSPOSE  # jax compiles every operation of each


@pytest.mark.parametrize("case", CASES, ids=name_of)
class TestConv(ConvContract):
    face = KerasFace()


class TestGolden(GoldenContract):
    face = KerasFace()


def built(name, rank, filters, channels, **arguments):
    layer = getattr(layers, name)(filters, 3, data_format="channels_last", **arguments)
    layer.build((None, *(None,) * rank, channels))
    return layer


class TestRefusal(RefusalContract):
    def build(self, rank, filters, channels, groups, **arguments):
        return built(f"SymmetricConv{rank}D", rank, filters, channels, groups=groups, **arguments)

    def test_groups_that_do_not_divide_the_filters_are_refused_by_the_constructor(self):
        with pytest.raises(ValueError) as refusal:
            layers.SymmetricConv2D(16, 3, groups=3)
        assert str(refusal.value) == "groups: 3 do not divide 16 filters. Expected a divisor of 16. Use such a number."


class TestRefusalOfTransposed(RefusalContract):
    groups_too = False

    def build(self, rank, filters, channels, groups, **arguments):
        return built(f"SymmetricConv{rank}DTranspose", rank, filters, channels, **arguments)
