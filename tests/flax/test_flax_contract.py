"""The five promises, and the golden numbers, kept by the Flax layers."""

import pytest
from cases import conv_cases, covering, name_of, transpose_cases
from contract import ConvContract, GoldenContract, RefusalContract
from flax import nnx
from flax_face import FlaxFace

from symmetric_layers.flax import SymmetricConv, SymmetricConvTranspose


def host_takes(case):
    """Causal padding is for one axis; reflections and circles are names of paddings, not beside them."""
    if case.padding == "CAUSAL":
        return case.rank == 1 and case.mode == "zeros"
    return case.mode == "zeros" or case.padding == "SAME"


CONV = conv_cases(
    paddings=["VALID", "SAME", "CAUSAL", (2, 0, 1)],
    modes=["zeros", "reflect", "circular"],
    groups=[1, 2],
    possible=host_takes,
)
TRANSPOSED = transpose_cases(
    paddings=["VALID", "SAME", (0, 1, 2)], groups=[1], output_paddings=[0], possible=lambda case: True
)


CASES = covering(CONV + TRANSPOSED)  # each is compiled several times


@pytest.mark.parametrize("case", CASES, ids=name_of)
class TestConv(ConvContract):
    face = FlaxFace()


class TestGolden(GoldenContract):
    face = FlaxFace()


class TestRefusal(RefusalContract):
    def build(self, rank, filters, channels, groups, **arguments):
        SymmetricConv(channels, filters, (3,) * rank, feature_group_count=groups, rngs=nnx.Rngs(0), **arguments)


class TestRefusalOfTransposed(RefusalContract):
    groups_too = False

    def build(self, rank, filters, channels, groups, **arguments):
        SymmetricConvTranspose(channels, filters, (3,) * rank, rngs=nnx.Rngs(0), **arguments)
