"""What is measured means what the table says."""

import pytest
import torch
from torch.utils.data import TensorDataset

from symmetric_layers.compare.data import IGNORE, load
from symmetric_layers.compare.measure import disagreement, milliseconds, passes, predictor, score
from symmetric_layers.compare.rows import ROWS

PLAIN, _, AVERAGED, *_ = ROWS


class Map(torch.nn.Module):
    """Class 1 wherever the pixel is above 0, except in the first column."""

    def forward(self, x):
        answer = torch.cat([-x, x, torch.full_like(x, -9)], 1)
        answer[:, 1, :, 0] = -9
        return answer


class Slope(torch.nn.Module):
    """Two classes by a sum that is no mirror of itself."""

    def forward(self, x):
        weights = torch.linspace(-1, 2, x.shape[-1]).outer(torch.linspace(-1, 3, x.shape[-2])).T
        value = (x * weights).sum((2, 3))
        return torch.cat([value, -value, value * 0 - 99], 1)


def test_dice_is_two_overlaps_by_the_sum_of_sizes_over_what_has_a_label():
    task, predict = load("brain"), lambda pictures: torch.nn.functional.one_hot(pictures, 3).movedim(-1, 1)
    found = torch.tensor([[[0, 0, 1, 1, 2, 2, 2]]])
    truth = torch.tensor([[[0, 1, 1, 1, 2, 0, IGNORE]]])
    dice = [2 * 1 / (2 + 2), 2 * 2 / (2 + 3), 2 * 1 / (2 + 1)]
    assert score(task, predict, TensorDataset(found, truth)) == pytest.approx(sum(dice) / 3)


def test_accuracy_is_the_share_of_right_pictures():
    predict = lambda pictures: torch.nn.functional.one_hot(pictures, 10)  # noqa: E731
    assert score(load("digits"), predict, TensorDataset(torch.tensor([3, 4, 5, 6]), torch.tensor([3, 4, 5, 7]))) == 0.75


def test_disagreement_counts_pixels_of_the_region_that_change():
    picture = torch.ones(1, 1, 2, 5)
    truth = torch.zeros(1, 2, 5, dtype=torch.long)
    truth[..., -1] = IGNORE
    testing = TensorDataset(picture, truth)
    share, largest = disagreement(load("brain"), predictor(Map(), load("brain"), PLAIN), testing)
    assert share == pytest.approx(1 / 4)  # the first column and its mirror, of which one is outside
    assert largest > 0.5


@pytest.mark.parametrize("name", ["brain", "digits", "textures"])
def test_an_averaged_prediction_agrees_with_its_mirror_exactly(name):
    task = load(name)
    net = Map() if task.maps else Slope()
    pictures = torch.randn(20, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    testing = TensorDataset(pictures, torch.zeros(20, *[9, 9] * task.maps, dtype=torch.long))
    assert disagreement(task, predictor(net, task, PLAIN), testing)[0] > 0
    assert disagreement(task, predictor(net, task, AVERAGED), testing) == (0, 0)


def test_averaging_costs_one_pass_per_mirror():
    assert [passes(load(name), row) for name in ("brain", "textures") for row in (PLAIN, AVERAGED)] == [1, 2, 1, 4]
    calls = []

    class Counted(Slope):
        def forward(self, x):
            calls.append(len(x))
            return super().forward(x)

    predictor(Counted(), load("textures"), AVERAGED)(torch.zeros(1, 1, 8, 8))
    assert len(calls) == 4


def test_all_rows_are_timed_in_turn():
    turns = []
    found = milliseconds({name: lambda x, name=name: turns.append(name) or x for name in "abc"}, torch.zeros(1, 2), 4)
    assert turns == list("abc") * 9
    assert set(found) == set("abc")
    assert all(value >= 0 for value in found.values())
