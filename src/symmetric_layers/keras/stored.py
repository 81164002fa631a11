"""What all symmetric convolutions share: what is stored, how it starts, and what is derived from it."""

from collections.abc import Mapping, Sequence
from typing import Any

from symmetric_layers.keras.bank import expand_kernel
from symmetric_layers.keras.channels import channel_axis, expand_bias
from symmetric_layers.keras.grid import in_the_mirror
from symmetric_layers.keras.initial import Representatives
from symmetric_layers.keras.running import Running
from symmetric_layers.orbits import Plan, plan

Symmetry = Mapping[str, int | str] | None


class Symmetric(Running):
    """A convolution of the host that stores representatives only."""

    plan: Plan

    def _remember(self, bank: Plan, symmetry: Symmetry, share_bias: bool, in_symmetry: Symmetry, grid: str) -> None:
        self.plan = bank
        self.symmetry = symmetry
        self.share_bias = share_bias
        self.in_symmetry = in_symmetry
        self.grid = grid

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes the stored filters, now that the number of input channels is known."""
        channels = input_shape[channel_axis(self.data_format)]
        bank = self.plan
        self.plan = plan(bank.counts, bank.filters, bank.ndim, bank.groups, self.in_symmetry, channels)
        super().build(input_shape)

    def add_weight(self, shape: Any = None, initializer: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Adds a weight as the host does; of filters and shared biases, only the representatives are stored."""
        axis = {"kernel": -2 if self._transposed else -1, "lora_kernel_b": -1}.get(kwargs.get("name", ""))
        if kwargs.get("name") == "bias" and self.share_bias:
            axis = -1
        if axis is not None and self.plan.orbits:
            initializer = Representatives(initializer, shape, axis, self.plan)
            shape = list(shape)
            shape[axis] = self.plan.stored
        return super().add_weight(shape, initializer, *args, **kwargs)

    def full_kernel(self) -> Any:
        """All filters, mirrors written out: what the host's layer would hold as its `kernel`."""
        return expand_kernel(self.kernel, self.plan, self._transposed)

    def full_bias(self) -> Any:
        """One bias per filter, None where the layer has none: what the host's layer would hold as its `bias`."""
        return expand_bias(self.bias, self.plan) if self.use_bias and self.share_bias else self.bias

    def _biases(self) -> Any:
        return self.full_bias()

    def _convolved(self, inputs: Any) -> Any:
        crooked = ""
        if self.grid == "mirrored":
            known = "".join(self.plan.kinds)
            crooked = "".join(letter for letter in self._crooked(self._positions(inputs)) if letter in known)
        if not crooked:
            return self._run(inputs, self.full_kernel())
        axis = channel_axis(self.data_format)
        return in_the_mirror(self._run, inputs, self.kernel, self.plan, self._transposed, crooked, axis)

    def get_config(self) -> dict[str, Any]:
        """The host's config, and what was asked for beyond it."""
        asked = {name: None if value is None else dict(value) for name, value in self._asked().items()}
        return {**super().get_config(), **asked, "share_bias": self.share_bias, "grid": self.grid}

    def _asked(self) -> dict[str, Symmetry]:
        return {"symmetry": self.symmetry, "in_symmetry": self.in_symmetry}
