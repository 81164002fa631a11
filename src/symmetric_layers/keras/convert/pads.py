"""Lopsided padding before convolutions, which become one layer with it."""

from collections.abc import Mapping, Sequence
from typing import Any

from symmetric_layers.keras.convert.kinds import CONVS, DEPTHWISE, SEPARABLE, kind_of


class Pads:
    """Which convolutions read what a layer has padded, and nothing else does.

    Attributes:
        before: by convolution, the layer that pads before it.
    """

    def __init__(self) -> None:
        self.before: dict[int, Any] = {}
        self._padded: dict[int, Any] = {}

    def pad(self, tensor: Any, layer: Any) -> None:
        """Notes what a layer has padded on one side more than on the other."""
        self._padded[id(tensor)] = layer

    def read(self, operation: Any, tensor: Any, reads: Mapping[int, Sequence[int]]) -> None:
        """Notes who reads a tensor; `reads` says what layers have read before."""
        pad = self._padded.get(id(tensor))
        if pad is None:
            self.before.pop(id(operation), None)  # it was called behind a pad before, and is called without one now
            return
        alone = id(pad) not in {id(other) for other in self.before.values()} and len(reads[id(pad)]) == 1
        reader = kind_of(operation, (*CONVS[:3], *DEPTHWISE, *SEPARABLE)) and id(operation) not in reads
        if alone and reader and operation.padding == "valid":
            self.before[id(operation)] = pad
        else:
            self.before = {reader: other for reader, other in self.before.items() if other is not pad}
            self._padded = {seen: other for seen, other in self._padded.items() if other is not pad}
