"""Linear layers that read a whole map in a row."""

from typing import Any

from flax import nnx
from jax import Array

from symmetric_layers.flax.bank import expand_kernel
from symmetric_layers.flax.channels import spread
from symmetric_layers.flax.written import written_out
from symmetric_layers.orbits import Plan


class FlatLinear(nnx.Linear):
    """`nnx.Linear` on maps that are flattened, `x.reshape(batch, -1)`: `equivariant` makes it.

    At one size of the map such a layer is a convolution whose kernel is as large: its filters are mirrored as others.

    Equivalent to: a `SymmetricConv` (where it answers orbits) or an `InvariantConv` whose `kernel_size` is that of the
    map, with `padding='VALID'`, on the map itself.

    Law: mirroring the map, with its channels exchanged where they are orbits, exchanges the answers that are orbits,
    and leaves others as they are.

    Attributes:
        kernel: `(positions * channels, orbits)` where it answers orbits, else `(positions * orbits, out_features)`.
        bias: one per orbit, or per answer.
        sizes: of the map, along every axis of positions.
        plan: that of the answers where they are orbits, else that of the channels.
        leads_out: whether the answers are ordinary.

    Shape:
        `(..., positions * channels)` to `(..., out_features)`.
    """

    plan: Plan
    sizes: tuple[int, ...]
    leads_out: bool

    def full_kernel(self) -> Array:
        """One row for every channel at every position: what the host's layer would hold as its `kernel`."""
        stored = self.kernel[...]
        stored = stored.reshape(*self.sizes, -1, stored.shape[-1])
        return expand_kernel(stored, self.plan, turned=self.leads_out).reshape(-1, self.out_features)

    def full_bias(self) -> Array | None:
        """One bias per answer, None where the layer has none."""
        if self.bias is None:
            return None
        return self.bias[...] if self.leads_out else spread(self.bias[...], self.plan)

    def __call__(self, inputs: Array, *arguments: Any, **others: Any) -> Array:
        """Weighs `(..., in_features)`."""
        return nnx.Linear.__call__(written_out(self), inputs, *arguments, **others)
