"""Follows an example through a model: which channels meet, where they come from, where they go.

Every tensor carries a mark: which axis counts its channels, and which set of channels these belong to. Channels that
are added, multiplied or concatenated belong to one set; a set that holds an input or an answer of the model is plain,
every other one may be orbits.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from symmetric_layers.sets import Mark
from symmetric_layers.torch.answers import answered, call, tensors
from symmetric_layers.torch.convert.alone import might_treat_channel_by_channel
from symmetric_layers.torch.convert.banks import NORMS
from symmetric_layers.torch.convert.marks import mark_of, numbers_in, padding_of, set_mark, set_numbers, set_padding
from symmetric_layers.torch.convert.moves import (
    MOVES,
    found_in,
    is_blur,
    is_turned,
    numbers_of,
    sizes_laid_out,
    zeros_around,
)
from symmetric_layers.torch.convert.multiply import is_product, multiply
from symmetric_layers.torch.convert.notes import Notes
from symmetric_layers.torch.convert.operators import PIXELS, is_operator, zeros_before_and_after
from symmetric_layers.torch.convert.sentences import positioned, unfollowed, weighing
from symmetric_layers.torch.convert.surgery import HOSTS, host_of
from symmetric_layers.torch.convert.tables import layout_of

_LAST = (nn.Linear, nn.MultiheadAttention)  # layers whose channels stand last
_REDUCTIONS = {
    "mean", "sum", "amax", "amin", "max", "min", "var", "std", "prod", "norm", "vector_norm", "logsumexp", "median",
    "argmax", "argmin", "nanmean", "nansum",
}  # fmt: skip
_NORMED = {"batch_norm", "group_norm", "instance_norm", "layer_norm", "prelu", "rms_norm"}
_WEIGHED = {
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "matmul", "mm",
    "bmm", "addmm", "einsum", "__matmul__", "__rmatmul__", "multi_head_attention_forward", "bilinear",
}  # fmt: skip


class Follower(Notes, TorchFunctionMode):
    """Takes the notes of one model; `follow` does, once per mode of the model."""

    def __init__(
        self,
        model: nn.Module,
        kept: Callable[[str], bool],
        stays: Callable[[str], bool] = lambda name: False,
        plain: Iterable[str] = (),
    ) -> None:
        super().__init__(model, kept, plain)
        self._stays = stays
        self._stack = [""]
        self._muted = 0
        self._rank = 0  # how many axes of positions pictures have
        self._vectors: set[int] = set()  # inputs that know no positions
        self._own: set[int] = set()  # numbers of the model's own that were read before they met any layer
        self._raw: set[int] = set()  # parameters and buffers that know channels
        self._maps: list[tuple[int, ...]] = []  # the sizes of maps, the last ones first

    def follow(self, example: Any) -> None:
        """Runs the model once and takes notes."""
        names = {id(module): name for name, module in self._model.named_modules()}
        self._mark_parameters()
        self._rank = max((tensor.dim() - 2 for _, tensor in tensors(example)), default=0)
        for _, tensor in tensors(example):
            if tensor.dim() > (1 if tensor.is_floating_point() else 2):
                source = self.sets.new(plain=True)
                self._inputs.add(source)
                if tensor.dim() == 2:
                    self._vectors.add(source)
                known = tensor.dim() in (2, self._rank + 2)  # words stand in rows
                set_mark(tensor, Mark(source, 1 if known else None))
        handles = []
        for module in self._model.modules():
            handles.append(module.register_forward_pre_hook(self._enter(names[id(module)]), with_kwargs=True))
            handles.append(module.register_forward_hook(self._leave(names[id(module)])))
        try:
            with torch.no_grad(), self:
                answer = call(self._model, example)
        finally:
            for handle in handles:
                handle.remove()
        for source in self._own:
            if not self.meets(source):
                self.sets.make_plain(source)
        for name, tensor in answered(answer).items():
            self.named.add(name)
            mark = mark_of(tensor)
            if mark is not None and not self._stays(name):
                self.sets.make_plain(mark.source)
                self._handed_out.add(mark.source)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls, and marks the answer."""
        kwargs = kwargs or {}
        answer = func(*args, **kwargs)
        if not self._muted:
            self._note(getattr(func, "__name__", ""), func, args, kwargs, answer)
        return answer

    def _mark_parameters(self) -> None:
        """Marks what other modules weigh channels with, and the numbers per channel that they keep in buffers."""
        for name, module in self._model.named_modules():
            if _known(module):
                continue
            for key, tensor in [*module._parameters.items(), *module._buffers.items()]:
                if tensor is None or not tensor.is_floating_point():
                    continue
                if isinstance(module, nn.Embedding):
                    source, axis = self.parameters.setdefault((name, key), (self.sets.new(), 1))
                    set_mark(tensor, Mark(source, axis))
                    continue
                long = [axis for axis, size in enumerate(tensor.shape) if size > 1]
                if len(long) > 1 and isinstance(tensor, nn.Parameter):
                    set_mark(tensor, Mark(self.sets.new(), None, f"{name}.{key}".lstrip(".")))
                elif len(long) == 1:
                    source, _ = self.parameters.setdefault((name, key), (self.sets.new(), long[0]))
                    set_mark(tensor, Mark(source, long[0]))
                    self._raw.add(id(tensor))

    def _enter(self, name: str) -> Callable[..., None]:
        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            self._stack.append(name)
            if _known(module):
                self._muted += 1
                given = [value for _, value in tensors((args, kwargs))]
                given = given[: 3 if isinstance(module, nn.MultiheadAttention) else 1]
                for one in given[1:]:
                    self._join_orbits(given[0], one)
                for place, one in enumerate(given):
                    self._meet(name, module, one)
                    if place:
                        self.keys.setdefault(name, []).append(self.reads[name].pop())

        return before

    def _leave(self, name: str) -> Callable[..., None]:
        def after(module: nn.Module, args: Any, answer: Any) -> None:
            self._stack.pop()
            if _known(module):
                self._muted -= 1
            answers = [tensor for _, tensor in tensors(answer)]
            for tensor in answers[:1] if isinstance(module, nn.MultiheadAttention) else answers:
                if tensor.dim() == self._rank + 2:
                    sizes = tuple(tensor.shape[2:])
                    self._maps = [sizes, *(one for one in self._maps if one != sizes)]
                if name in self.writes:
                    dim = tensor.dim() - 1 if isinstance(module, _LAST) else 1
                    set_mark(tensor, Mark(self.writes[name], dim))
                    self._made[self.writes[name]] = max(tensor.shape[dim], self._made.get(self.writes[name], 0))
                elif _known(module):
                    mark = next((mark_of(value) for _, value in tensors(args)), None)
                    if mark is not None:
                        set_mark(tensor, mark)
                mark = mark_of(tensor)
                if mark is not None:
                    self.answers[name] = mark.source
                if mark is not None and name in self.led_out:
                    self.sets.make_plain(mark.source)
                    self.led_out[name] = True
            zeros = zeros_before_and_after(module)
            if zeros is not None:
                set_padding(answers[0], zeros, by_function=False)
            if self._treats_alike(module, args, answer):
                known = mark_of(args[0])
                if name not in self.alone or (known is not None and not self.sets.is_plain(known.source)):
                    self.alone[name] = args[0].shape  # rather that of orbits than that of pictures
            if name in self.alone:
                found = [mark_of(one) for one in args if isinstance(one, Tensor)]
                self.reads.setdefault(name, []).extend(mark.source for mark in found if mark is not None)

        return after

    def _join_orbits(self, one: Tensor, other: Tensor) -> None:
        """Queries are arranged like keys, also those that are learnt; plain ones stay for themselves."""
        marks = [mark for mark in (mark_of(one), mark_of(other)) if mark is not None and not mark.lost]
        if len(marks) == 2 and not any(self.sets.is_plain(mark.source) for mark in marks):
            self.sets.join(marks[0].source, marks[1].source)

    def _treats_alike(self, module: nn.Module, args: Any, answer: Any) -> bool:
        """Whether a module that is not known gives as many channels of the same set as it was given."""
        if _known(module) or len(args) != 1 or not isinstance(args[0], Tensor) or not isinstance(answer, Tensor):
            return False
        given, made = mark_of(args[0]), mark_of(answer)
        if given is None or made is None or args[0].dim() < 3 or (given.dim, made.dim) != (1, 1):
            return False
        same = self.sets.find(given.source) == self.sets.find(made.source)
        return same and args[0].shape[:2] == answer.shape[:2] and might_treat_channel_by_channel(module)

    def _meet(self, name: str, module: nn.Module, tensor: Tensor) -> None:
        """Notes what a layer reads, and refuses what no layer could."""
        mark = mark_of(tensor) or Mark(self.sets.new(plain=True), None)
        if not self.meets(mark.source):  # numbers of the model's own that met no layer: no orbits
            self._own.add(mark.source)
            mark = Mark(mark.source, None)
        weighs = isinstance(module, (*HOSTS, *_LAST, *PIXELS))
        last = isinstance(module, (*_LAST, nn.LayerNorm))
        ordinary = self.sets.is_plain(mark.source) or mark.source in self._own
        harmless = ordinary and not isinstance(module, _LAST)  # no mirror is looked for
        if isinstance(module, nn.Linear) and mark.flat:
            self.flat[name] = mark.flat
        elif not self._kept(name) and not harmless:
            if mark.lost and mark.source not in self._vectors:
                raise unfollowed(name, module, mark.lost)
            wrong = mark.dim is not None and mark.dim != (tensor.dim() - 1 if last else 1)
            if wrong and not (isinstance(module, nn.LayerNorm) and module.weight is None):
                raise unfollowed(name, module, "an exchange of axes")
        self.reads.setdefault(name, []).append(mark.source)
        if isinstance(module, HOSTS) or is_operator(module):
            self.padded.setdefault(name, set()).add(padding_of(tensor))
        if weighs and name not in self.writes:
            self.writes[name] = self.sets.new()

    def _note(self, name: str, func: Any, args: Any, kwargs: Any, answer: Any) -> None:
        outputs = [tensor for _, tensor in tensors(answer)]
        inputs = [(tensor, mark) for tensor, mark in _marked((args, kwargs))]
        if name == "__setitem__" and inputs:
            self._write(args[0], args[2])
        typed = name in ("to", "type_as") and mark_of(args[0]) is None  # something else, of the same type
        if not inputs or not outputs or name.startswith("new_") or typed:
            return
        if name in MOVES and args and inputs[0][0] is args[0] and (name != "__get__" or is_turned(args[0], outputs)):
            self._move(name, func, args, kwargs, inputs[0], outputs)
        elif name in ("cat", "concat", "concatenate", "stack"):
            self._concatenate(name, args, kwargs, inputs, outputs[0])
        elif name == "embedding":
            found = inputs[-1][1]
            set_mark(outputs[0], found if found.dim is None else found._replace(dim=outputs[0].dim() - 1))
        elif name == "glu":  # halves of the channels gate each other, or of the positions
            set_mark(outputs[0], inputs[0][1])
        elif is_product(name, args, [tensor for tensor, _ in inputs]):
            multiply(self.sets, name, args, [value for _, value in tensors((args, kwargs))], outputs[0])
        elif name in _REDUCTIONS and not (len(args) > 1 and isinstance(args[1], Tensor)):
            self._reduce(name, args, kwargs, inputs[0], outputs)
        elif is_blur(name, args, kwargs):
            set_mark(outputs[0], inputs[0][1])
        else:
            others = [tensor for _, tensor in tensors((args, kwargs)) if mark_of(tensor) is None]
            self._combine(name, inputs, others, outputs)
            zeros = zeros_around(name, args, kwargs)
            if zeros is not None:
                set_padding(outputs[0], zeros, by_function=True)

    def _move(self, name: str, func: Any, args: Any, kwargs: Any, given: Any, outputs: list[Tensor]) -> None:
        """Follows the channels by sending their numbers the same way, through shapes that mix them with others, too."""
        tensor, mark = given
        carried = numbers_in(tensor) if mark.lost else None
        if carried is None and (mark.dim is None or tensor.shape[mark.dim] == 1):
            for output in outputs:
                flat = self._sizes_laid_out(tensor, mark, name, output)  # one channel has no number to be sent
                set_mark(output, Mark(mark.source, mark.dim if output.dim() == tensor.dim() else None, mark.lost, flat))
            return
        numbers, count = carried or (numbers_of(tensor, mark.dim), tensor.shape[mark.dim])
        moved = func(*[numbers if value is tensor else value for value in args], **kwargs)
        made = [made for source, made in self._made.items() if self.sets.find(source) == self.sets.find(mark.source)]
        for output, (_, seen) in zip(outputs, tensors(moved), strict=True):
            found = found_in(seen, mark._replace(lost=""), mark.lost or name, count, max(made, default=count))
            flat = self._sizes_laid_out(tensor, mark, name, seen) if found.lost else ()
            set_mark(output, found._replace(flat=flat))
            if found.lost:
                set_numbers(output, seen, count)

    def _sizes_laid_out(self, tensor: Tensor, mark: Mark, name: str, seen: Tensor) -> tuple[int, ...]:
        return sizes_laid_out(tensor, mark, name, seen) if tensor.dim() == self._rank + 2 else ()

    def _write(self, target: Tensor, value: Any) -> None:
        """What is written into a tensor, channel by channel, is of one set with what stands there."""
        mark = mark_of(value) if isinstance(value, Tensor) else None
        if mark is None or self.sets.is_plain(mark.source):
            return
        there = mark_of(target)
        if there is not None:
            self.sets.join(there.source, mark.source)
            return
        dim = mark.dim if target.dim() == value.dim() else None
        alike = dim is not None and target.shape[dim] == value.shape[dim]
        set_mark(target, Mark(mark.source, dim) if alike else Mark(mark.source, None, mark.lost or "__setitem__"))

    def _concatenate(self, name: str, args: Any, kwargs: Any, inputs: Any, output: Tensor) -> None:
        given = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else 0))
        dim = given + output.dim() if given < 0 else given
        first = next((mark for _, mark in inputs if mark.source not in self._inputs), inputs[0][1])
        for _, mark in inputs:
            if name != "stack" and mark.dim == dim and mark.source in self._inputs and first.source not in self._inputs:
                self.joined.append((self._stack[-1], mark.source, first.source))
            else:
                self.sets.join(first.source, mark.source)
        axis = first.dim
        if name == "stack" and axis is not None and dim <= axis:
            axis += 1
        lost = next((mark.lost for _, mark in inputs if mark.lost), "")
        set_mark(output, Mark(first.source, axis, lost))

    def _reduce(self, name: str, args: Any, kwargs: Any, given: Any, outputs: list[Tensor]) -> None:
        tensor, mark = given
        dims = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else None))
        if dims is None or mark.dim is None:
            for output in outputs:
                set_mark(output, Mark(self.sets.new(), None, mark.lost))
            return
        over = {dim % tensor.dim() for dim in ((dims,) if isinstance(dims, int) else dims)}
        kept = outputs[0].dim() == tensor.dim()
        axis = mark.dim if kept else mark.dim - sum(dim < mark.dim for dim in over)
        for output in outputs:
            if mark.dim in over and name.startswith("arg"):  # the number of a channel, which its mirror does not have
                set_mark(output, Mark(mark.source, None, name))
            elif mark.dim in over:  # what is left is one number for all channels
                set_mark(output, Mark(self.sets.new(plain=True), axis if kept else None))
            else:
                set_mark(output, Mark(mark.source, axis, mark.lost))

    def _is_raw(self, tensor: Tensor) -> bool:
        return isinstance(tensor, nn.Parameter) or id(tensor) in self._raw

    def _combine(self, name: str, inputs: Any, others: list[Tensor], outputs: list[Tensor]) -> None:
        """Functions that treat channel by channel; of others the channels are lost."""
        tensor, mark = max(inputs, key=lambda one: (one[1].dim is not None, not self._is_raw(one[0]), one[0].numel()))
        kept = self._kept(self._stack[-1])
        if name in _WEIGHED and not kept and any(isinstance(other, nn.Parameter) for other, _ in inputs):
            raise weighing(self._stack[-1], name)
        if self._is_raw(tensor) and any(one.dim() > tensor.dim() for one in others):
            self.sets.make_plain(mark.source)  # it meets what comes from nowhere: noise, ramps
        for other, second in inputs:
            if other is tensor:
                continue
            if second.lost and isinstance(other, nn.Parameter) and not kept:
                self._look_up(name, tensor, mark, other, second.lost)
                continue
            if mark.dim is not None and second.dim is None and not second.lost:
                self.sets.make_plain(second.source)  # one of its channels was picked out, for all of the other's
                self._picked.add(second.source)
            if mark.dim is None or second.dim is None:
                continue
            if name in _NORMED:
                if other.dim() == 1 and other.shape[0] == tensor.shape[mark.dim]:
                    self.sets.join(mark.source, second.source)
            elif other.dim() - second.dim == tensor.dim() - mark.dim:
                if other.shape[second.dim] == tensor.shape[mark.dim]:
                    self.sets.join(mark.source, second.source)
                else:  # one number for all channels
                    self.sets.make_plain(second.source)
            elif isinstance(other, nn.Parameter) and not kept:
                raise positioned(self._stack[-1], "a parameter", name)
        for output in outputs:
            same = mark.dim is not None and output.dim() == tensor.dim() and name not in _WEIGHED
            same = same and output.shape[mark.dim] == tensor.shape[mark.dim]
            lost = Mark(mark.source, None, mark.lost or name or "a function")
            found = mark if same or mark.dim is None else lost
            set_mark(output, found if output.shape == tensor.shape else found._replace(flat=()))

    def _look_up(self, name: str, tensor: Tensor, mark: Mark, table: Tensor, called: str) -> None:
        """Notes a table of positions; refuses other parameters that know more than channels."""
        layout = None if mark.dim is None else layout_of(table, tensor, mark.dim, self._maps)
        if layout is None or self.tables.get(called, (0, layout))[1] != layout:
            raise positioned(self._stack[-1], called, name)
        self.tables[called] = mark.source, layout


def _known(module: nn.Module) -> bool:
    return isinstance(module, (*HOSTS, *_LAST, *PIXELS)) or host_of(module, NORMS) is not None or is_operator(module)


def _marked(tree: Any) -> Iterator[tuple[Tensor, Mark]]:
    for _, tensor in tensors(tree):
        mark = mark_of(tensor)
        if mark is not None:
            yield tensor, mark
