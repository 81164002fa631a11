"""Linear layers over several axes: heads of features, of which each holds whole orbits."""

import math
from typing import Any

from flax import nnx
from jax import Array

from symmetric_layers.flax.bank import expand_kernel
from symmetric_layers.flax.channels import spread
from symmetric_layers.flax.written import written_out
from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Plan


class General(nnx.LinearGeneral):
    """What both share: the plans of one head, of what is read and of what is answered."""

    plan: Plan

    def full_kernel(self) -> Array:
        """One weight for each feature: what the host's layer would hold as its `kernel`."""
        raise NotImplementedError

    def full_bias(self) -> Array | None:
        """One bias for each answer, None where the layer has none."""
        raise NotImplementedError

    def __call__(self, inputs: Array, *arguments: Any, **others: Any) -> Array:
        """Weighs `(..., *in_features)`."""
        return nnx.LinearGeneral.__call__(written_out(self), inputs, *arguments, **others)


class SymmetricLinearGeneral(General):
    """`nnx.LinearGeneral` whose answers are orbits along their last axis: `equivariant` makes it.

    Equivalent to: a `SymmetricLinear` on all features in a row, whose answers are reshaped.

    Law: exchanging the input features with their mirrors exchanges the output features, in every head.

    Attributes:
        kernel: `(*in_features, *heads, orbits)`; `bias`: `(*heads, orbits)`.
        plan: that of all output features in a row.
    """

    def full_kernel(self) -> Array:
        """One column per feature: what the host's layer would hold as its `kernel`."""
        stored = self.kernel[...].reshape(*[1] * len(LETTERS), math.prod(self.in_features), self.plan.stored)
        return expand_kernel(stored, self.plan).reshape(*self.in_features, *self.out_features)

    def full_bias(self) -> Array | None:
        """One bias per feature, None where the layer has none."""
        if self.bias is None:
            return None
        return spread(self.bias[...].reshape(-1), self.plan).reshape(self.out_features)


class OrbitLinearGeneral(General):
    """`nnx.LinearGeneral` whose answers are ordinary: every feature of an orbit has the same weights.

    Equivalent to: an `OrbitLinear` on all features in a row, whose answers are reshaped.

    Law: exchanging the input features with their mirrors changes nothing.

    Attributes:
        kernel: `(*heads, orbits, *out_features)`.
        plan: that of all input features in a row.
    """

    def full_kernel(self) -> Array:
        """One row of weights per feature: what the host's layer would hold as its `kernel`."""
        stored = self.kernel[...].reshape(self.plan.stored, math.prod(self.out_features))
        return spread(stored.T, self.plan).T.reshape(*self.in_features, *self.out_features)

    def full_bias(self) -> Array | None:
        """The bias as it is."""
        return None if self.bias is None else self.bias[...]
