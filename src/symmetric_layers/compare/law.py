"""The law, measured layer by layer in trained networks: what the report says of it."""

from typing import Any

from torch import Tensor, nn

from symmetric_layers.compare.data import Task
from symmetric_layers.compare.experiment import Experiment, Run
from symmetric_layers.compare.heads import PairedHead, law_error
from symmetric_layers.torch import where_it_breaks
from symmetric_layers.torch.answers import usual_tolerance

LARGE = 2**16  # positions; of larger pictures a part is followed, which shows the law as well
_LARGEST = 1e9  # JSON has no infinity
_GRID = 32  # what is left of sizes over strides up to this one is the same in the part

Layers = list[dict[str, Any]]


def measured(experiment: Experiment) -> dict[str, Layers]:
    """For each twin, and a plain network beside it: how far each layer is from the law, in double precision."""
    twins = [row for row in experiment.rows if row.net in ("twin", "wide")]
    others = [row for row in experiment.rows if row.net == "plain" and not row.average][:1]
    picture = experiment.task.testing(0).pictures[0][0][None]
    return {
        row.name: layers(experiment.load(Run(experiment.task.samples[0], row, 0))[0], picture, experiment.task)
        for row in (*others, *twins)
        if twins
    }


def layers(net: nn.Module, picture: Tensor, task: Task) -> Layers:
    """The layers of a network in the order in which they run, and the whole of it, with their deviations."""
    net, picture = net.cpu().double().eval(), picture.double()
    small = part(picture)
    try:
        return _followed(net, small, task)
    except Exception:  # whatever a network finds too small
        if small.shape == picture.shape:
            raise
        return _followed(net, picture, task)


def part(picture: Tensor) -> Tensor:
    """The middle of a large picture; a small one as it is."""
    if picture[0, 0].numel() <= LARGE:
        return picture
    least = 64 if picture.dim() == 4 else 32
    for axis, size in enumerate(picture.shape[2:], 2):
        kept = min(size, least + size % _GRID)
        picture = picture.narrow(axis, (size - kept) // 2, kept)
    return picture


def _followed(net: nn.Module, picture: Tensor, task: Task) -> Layers:
    hidden = [f"{name}." for name, module in net.named_modules() if isinstance(module, PairedHead)]
    found = where_it_breaks(net, picture, task.kind)
    rows = list(found) if found.offender is None else found[1:]
    if found.offender is not None:  # first in the table; here where it runs, before all that breaks the law with it
        allowed = usual_tolerance(picture)
        place = next((place for place, row in enumerate(rows) if row.relative > allowed), len(rows))
        rows.insert(place, found[0])
    modules = dict(net.named_modules())
    leaves = [row for row in rows if row.module and not any(True for _ in modules[row.module].children())]
    whole = law_error(net, picture, task.pairs, task.kind)
    shown = [(row.module, row.relative) for row in leaves if not row.module.startswith(tuple(hidden))]
    return [{"layer": name, "deviation": min(error, _LARGEST)} for name, error in (*shown, ("", whole))]
