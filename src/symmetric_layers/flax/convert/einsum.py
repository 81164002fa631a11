"""Dense layers that are written as `nnx.Einsum`: sums over the last axes, whatever the order of the kernel's own."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import Array

from symmetric_layers.flax.bank import expand_kernel
from symmetric_layers.flax.channels import spread
from symmetric_layers.flax.written import written_out
from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Plan


class Dense(NamedTuple):
    """What a dense layer reads and makes along its last axes.

    Attributes:
        read, made: the axes of the kernel that are summed over, and those of what is answered.
    """

    read: tuple[int, ...]
    made: tuple[int, ...]


def dense(layer: Any) -> Dense | None:
    """How an `nnx.Einsum` is a dense layer over the last axes of what it reads; None where it is none."""
    before, _, right = layer.einsum_str.partition("->")
    left, kernel = before.split(",")
    read = [letter for letter in left.replace("...", "") if letter in kernel]
    made = [letter for letter in right.replace("...", "") if letter in kernel]
    ends = left.endswith("".join(read)) and right.endswith("".join(made))
    rest = left[: len(left) - len(read)] == right[: len(right) - len(made)]
    each = sorted(read + made) == sorted(kernel) and len(set(kernel)) == len(kernel)
    if not (read and made and ends and rest and each):
        return None
    found = Dense(tuple(map(kernel.index, read)), tuple(map(kernel.index, made)))
    bias = layer.bias_shape
    fits = bias is None or tuple(bias) == sizes_of(layer.kernel_shape, found.made)
    return found if fits else None


def sizes_of(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """The sizes along some axes."""
    return tuple(shape[axis] for axis in axes)


class DenseEinsum(nnx.Einsum):
    """What both share: the plan, of all answers in a row or of all that is read; which axis of the kernel is what."""

    plan: Plan
    dense: Dense

    def full_kernel(self) -> Array:
        """One weight for each feature: what the host's layer would hold as its `kernel`."""
        order = (*self.dense.read, *self.dense.made)
        full = self._full(jnp.transpose(self.kernel[...], order))
        return jnp.transpose(full, [order.index(axis) for axis in range(len(order))])

    def full_bias(self) -> Array | None:
        """One bias for each answer, None where the layer has none."""
        raise NotImplementedError

    def __call__(self, inputs: Array, *arguments: Any, **others: Any) -> Array:
        """Sums as the host does."""
        return nnx.Einsum.__call__(written_out(self), inputs, *arguments, **others)

    def _full(self, stored: Array) -> Array:
        """What is stored, with all features; what is read stands first."""
        raise NotImplementedError

    def _sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        read, made = (sizes_of(self.kernel_shape, axes) for axes in self.dense)
        return read, made


class SymmetricEinsum(DenseEinsum):
    """A dense `nnx.Einsum` whose answers are orbits along their last axis: `equivariant` makes it.

    Equivalent to: a `SymmetricLinear` on all features in a row, whose answers are reshaped.

    Law: exchanging the input features with their mirrors exchanges the output features, in every head.

    Attributes:
        kernel: as in the host, with one column per orbit; `bias`: one number per orbit.
    """

    def full_bias(self) -> Array | None:
        """One bias per feature, None where the layer has none."""
        if self.bias is None:
            return None
        return spread(self.bias[...].reshape(-1), self.plan).reshape(self._sizes()[1])

    def _full(self, stored: Array) -> Array:
        read, made = self._sizes()
        rows = stored.reshape(*[1] * len(LETTERS), math.prod(read), self.plan.stored)
        return expand_kernel(rows, self.plan).reshape(*read, *made)


class OrbitEinsum(DenseEinsum):
    """A dense `nnx.Einsum` whose answers are ordinary: every feature of an orbit has the same weights.

    Equivalent to: an `OrbitLinear` on all features in a row, whose answers are reshaped.

    Law: exchanging the input features with their mirrors changes nothing.

    Attributes:
        kernel: as in the host, with one row per orbit.
    """

    def full_bias(self) -> Array | None:
        """The bias as it is."""
        return None if self.bias is None else self.bias[...]

    def _full(self, stored: Array) -> Array:
        read, made = self._sizes()
        columns = stored.reshape(self.plan.stored, math.prod(made))
        return spread(columns.T, self.plan).T.reshape(*read, *made)
