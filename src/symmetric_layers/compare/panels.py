"""The part of the report that shows pictures beside what every row makes of them and of their mirrors."""

from html import escape

import torch
from torch import Tensor

from symmetric_layers.compare import pictures
from symmetric_layers.compare.data import length
from symmetric_layers.compare.experiment import Experiment
from symmetric_layers.compare.labels import map_seen
from symmetric_layers.compare.summary import percent
from symmetric_layers.letters import axes

SHOWN = 5  # pictures, where each has one class


def maps(experiment: Experiment) -> str:
    """One picture, its truth, and every row's map of it, beside those of the mirrored picture."""
    task = experiment.task
    testing = task.testing(0)
    picture, truth = testing.pictures[length(testing.pictures) // 2]
    picture, region, flip = picture[None], pictures.is_known(truth), axes(task.kind[0])
    count, predictors = len(task.classes), experiment.predictors(task.samples[0], 0)
    figures = [
        _figure(
            "The picture, its mirror, and the truth",
            pictures.grey(picture[0], "The test picture"),
            pictures.grey(picture[0].flip(flip), "The mirrored test picture"),
            pictures.classes(truth, region, count, "The true classes of the picture"),
            "The middle one of the test pictures.",
        )
    ]
    for row in experiment.rows:
        predict = predictors[row.name]
        found, mirrored = predict(picture).argmax(1)[0], predict(picture.flip(flip)).argmax(1)[0]
        changed = found != map_seen(mirrored, task.kind[0], task.pairs)
        share = float(changed[region].double().mean())
        figures.append(
            _figure(
                row.title,
                pictures.classes(found, region, count, f"{row.title}: prediction for the picture"),
                pictures.classes(
                    mirrored, region.flip(flip), count, f"{row.title}: prediction for the mirrored picture"
                ),
                pictures.marks(changed, region, f"{row.title}: pixels that changed, {percent(share)}"),
                f"Prediction for the picture, for its mirror, and what differs once mirrored back: {percent(share)}.",
            )
        )
    return _key(task.classes) + f'<div class="grid">{"".join(figures)}</div>'


def _figure(title: str, first: str, second: str, third: str, text: str) -> str:
    return (
        f'<figure><h3>{escape(title)}</h3><div class="three">{first}{second}{third}</div>'
        f"<figcaption>{escape(text)}</figcaption></figure>"
    )


def _key(classes: tuple[str, ...]) -> str:
    entries = [*zip(pictures.colours(len(classes)), classes, strict=True), (pictures.CHANGED, "changed by mirroring")]
    items = "".join(f'<li><i style="background:{colour}"></i>{escape(name)}</li>' for colour, name in entries)
    return f'<ul class="key">{items}</ul>'


def answers(experiment: Experiment) -> str:
    """A few pictures, and every row's class for each and for its mirror."""
    task = experiment.task
    testing = task.testing(0)
    order = torch.linspace(0, length(testing.pictures) - 1, SHOWN).round().long()
    pairs = [testing.pictures[int(index)] for index in order]
    shown, truth = torch.stack([picture for picture, _ in pairs]), [task.classes[int(target)] for _, target in pairs]
    flip = axes(task.kind[0])
    images = [pictures.grey(picture, f"A picture of class {name}") for picture, name in zip(shown, truth, strict=True)]
    head = "<th scope='col'>row</th>" + "".join(
        f'<th scope="col">{image}{escape(name)}</th>' for image, name in zip(images, truth, strict=True)
    )
    body = []
    for name, predict in experiment.predictors(task.samples[-1], 0).items():
        title = next(row.title for row in experiment.rows if row.name == name)
        answered = zip(predict(shown), predict(shown.flip(flip)), truth, strict=True)
        texts = "".join(
            f"<td>{_answer(one, task.classes, name)}<br>{_answer(two, task.classes, name)}</td>"
            for one, two, name in answered
        )
        body.append(f'<tr><th scope="row">{escape(title)}</th>{texts}</tr>')
    return (
        f"<p>Above, the answer to the picture; below, to its mirror. Seed 0, trained on {task.samples[-1]} pictures; "
        'wrong answers are marked.</p><div class="wide small" tabindex="0" role="region" aria-label="Answers">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _answer(probabilities: Tensor, classes: tuple[str, ...], truth: str) -> str:
    best = int(probabilities.argmax())
    text = f"{escape(classes[best])} ({float(probabilities[best]):.0%})"
    return text if classes[best] == truth else f'<span class="bad">{text} ✗</span>'
