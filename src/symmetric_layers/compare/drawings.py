"""What a report shows of trained networks: drawn once, and kept in results.json."""

from torch import nn

from symmetric_layers.compare import panels, pictures
from symmetric_layers.compare.experiment import Experiment, Run


def drawings(experiment: Experiment) -> dict[str, str]:
    """The panels of test pictures, and the filters of the first layers."""
    shown = panels.maps if experiment.task.maps else panels.answers
    return {"pictures": shown(experiment), "filters": _filters(experiment)}


def _filters(experiment: Experiment) -> str:
    figures = []
    for row in experiment.rows:
        if row.average or (row.augment and any(other.name == "plain" for other in experiment.rows)):
            continue
        net, _ = experiment.load(Run(experiment.task.samples[0], row, 0))
        drawn = pictures.orbits(_first_layer(net), f"First-layer filters of the row {row.title}")
        figures.append(f"<figure><h3>{row.title}</h3>{drawn}</figure>")
    return "".join(figures)


def _first_layer(net: nn.Module) -> nn.Module:
    return next(module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Conv3d))
