"""Layers that are told how their channels are arranged."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from symmetric_layers.errors import whole_number
from symmetric_layers.keras.channels import plain
from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Plan, plan

if TYPE_CHECKING:
    from keras.layers import Layer as _Host
else:
    _Host = object

Symmetry = Mapping[str, int | str] | None


class Arranged(_Host):
    """What layers on orbits share: the arrangement, known from when the layer is built."""

    plan: Plan
    _axis: int

    def __init__(self, *arguments: Any, symmetry: Symmetry = None, **others: Any) -> None:
        given = plain("symmetry", symmetry)
        super().__init__(*arguments, **others)
        self.symmetry = given

    def _arrange(self, input_shape: Sequence[int | None], axis: int) -> None:
        """Learns how the channels are arranged; refused where they do not fit."""
        self.plan = plan(self.symmetry, whole_number("input channels", input_shape[axis], 1), len(LETTERS))

    def get_config(self) -> dict[str, Any]:
        """The host's config, and what was asked for beyond it."""
        return {**super().get_config(), "symmetry": None if self.symmetry is None else dict(self.symmetry)}
