"""Filters as the fused kernel reads them, kept by a layer from call to call: packing them is up to a third of a call.

The kernel compares all that is stored with what it packed last, so that whoever changes a filter, in whatever way, is
answered with the new one.
"""

from threading import Lock

from torch import Tensor

from symmetric_layers.torch.kernels.operators import Prepared


class Keeping:
    """Gives a layer's answers, and keeps its filters packed from the second one on.

    Answers asked for by other threads meanwhile are given without.
    """

    def __init__(self, how: Prepared) -> None:
        self.how = how
        self.rooms: list[Tensor] | None = None
        self._free = Lock()

    def __deepcopy__(self, memo: dict[int, object]) -> "Keeping":
        """A copy keeps its own."""
        return Keeping(self.how)

    def __call__(self, *given: Tensor | None) -> Tensor:
        """The answer."""
        if not self._free.acquire(blocking=False):
            return self.how(*given)
        try:
            if self.rooms is None:
                self.rooms = []  # a layer that is called once has nothing to gain
            elif not self.rooms:
                self.rooms = self._new_rooms()
            return self.how(*given, rooms=self.rooms)
        finally:
            self._free.release()

    def _new_rooms(self) -> list[Tensor]:
        try:
            return [call.new_room() for call in self.how.calls]
        except RuntimeError:  # there is no memory: the layer answers as before
            return []
