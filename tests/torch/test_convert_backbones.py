"""Networks that answer with features: plain ones by default, orbits where these are asked for."""

import pytest
import torch
from test_convert_networks import randomise
from torch import nn
from torch.nn import functional as F

from symmetric_layers import SymmetryError
from symmetric_layers.torch import InvariantConv2d, SymmetricConv2d, equivariance_error, equivariant

PICTURE = torch.randn(2, 3, 12, 12)


class Backbone(nn.Module):
    """Answers with classes and with the features of every stage."""

    def __init__(self):
        super().__init__()
        self.stem, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.down, self.head = nn.Conv2d(8, 16, 3, 2, 1), nn.Linear(16, 5)

    def forward(self, x):
        first = F.relu(self.stem(x))
        first = first + F.relu(self.second(first))
        deep = F.relu(self.down(first))
        return {"classes": self.head(deep.mean((2, 3))), "features": [first, deep]}


def deviations(model, x, **how):
    found = equivariance_error(model.double(), x.double(), "hv", **how)
    return {row.output: row.relative for row in found if row.axis == "h"}


def test_layers_that_answers_come_from_are_plain_and_the_report_says_so():
    told = []
    twin = equivariant(Backbone(), "hv", example=PICTURE, report=told.append)
    assert [type(layer) for layer in (twin.stem, twin.second, twin.down)] == [InvariantConv2d] * 3
    assert told == [
        "'stem', 'second', 'down': plain, because what they make meets inputs or answers of the model; answers= leaves "
        "answers orbits."
    ]
    assert max(deviations(twin, PICTURE).values()) < 1e-12


@pytest.mark.parametrize("answers", [["features.0", "features.1"], ("features.1", "features.0")])
def test_answers_that_are_named_stay_orbits(answers):
    told = []
    twin = equivariant(Backbone(), "hv", example=PICTURE, answers=answers, report=told.append)
    assert told == []
    assert [type(layer) for layer in (twin.stem, twin.second, twin.down)] == [SymmetricConv2d] * 3
    found = deviations(twin, PICTURE)
    assert found["classes"] < 1e-12 < 1e-3 < found["features.1"]  # as they are, they do not mirror
    assert max(deviations(twin.stem, PICTURE).values()) < 1e-12
    body = nn.Sequential(twin.stem, nn.ReLU(), twin.down)
    assert max(deviations(body, PICTURE, symmetry={"hv": "100%"}).values()) < 1e-12


def test_all_answers_may_stay_orbits():
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3))
    twin = equivariant(body, "hv", example=PICTURE, answers="orbits")
    assert type(twin[3]) is SymmetricConv2d
    assert max(deviations(twin, PICTURE, symmetry={"hv": "100%"}).values()) < 1e-12
    assert twin(PICTURE.double()).shape == body(PICTURE).shape


def test_orbits_that_are_none_are_refused():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)

        def forward(self, x):
            return self.second(F.relu(self.first(x))).roll(1, 1)

    with pytest.raises(SymmetryError, match="breaks the law"):
        equivariant(Own(), "h", example=PICTURE, answers="orbits")
    assert isinstance(equivariant(Own(), "h", example=PICTURE).second, InvariantConv2d)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"answers": "maps"}, "answers: 'maps' is no choice here. Expected 'plain' or 'orbits'. Use one of these."),
        (
            {"answers": ["feature"]},
            "answers: 'feature' is no answer of the model. Expected names out of ['classes', 'features.0', "
            "'features.1']. Use such.",
        ),
        (
            {"answers": ["features.0"], "init": "average", "width": 2},
            "answers: ['features.0'] cannot start as an average, which has no orbits. Expected 'plain'. Use that, or "
            "init='own'.",
        ),
    ],
)
def test_what_is_no_choice_is_refused_in_a_sentence(how, expected):
    with pytest.raises(SymmetryError) as refused:
        equivariant(Backbone(), "h", example=PICTURE, **how)
    assert str(refused.value) == expected


class Stage(nn.Module):
    """What is handed out goes on, through a convolution of every channel by itself."""

    def __init__(self, channels=16):
        super().__init__()
        self.stem, self.each = (
            nn.Conv2d(3, channels, 4, 4),
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
        )
        self.wide, self.back = nn.Conv2d(channels, 2 * channels, 1), nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x):
        x = self.stem(x)
        return x + self.back(self.wide(self.each(x)).relu())


class Separable(nn.Module):
    """Colours are looked at one by one before they are mixed."""

    def __init__(self):
        super().__init__()
        self.each, self.mix = nn.Conv2d(3, 6, 3, padding=1, groups=3), nn.Conv2d(6, 16, 1)
        self.deep, self.out = nn.Conv2d(16, 16, 3, padding=1, groups=4), nn.Conv2d(16, 2, 1)

    def forward(self, x):
        return self.out(self.deep(self.mix(self.each(x)).relu()).relu())


@pytest.mark.parametrize(
    ("model", "invariant"), [(Stage(), "each back"), (Separable(), "each out")], ids=["stage", "stem"]
)
def test_plain_channels_that_are_seen_one_by_one_stay_plain(model, invariant):
    """There is no room for orbits in groups of one."""
    torch.manual_seed(0)
    x, told = torch.randn(2, 3, 16, 16), []
    new = equivariant(model, "hv", example=x, report=told.append)
    for name in invariant.split():
        assert type(getattr(new, name)).__name__ == "InvariantConv2d", name
    assert "'each' makes no whole orbits of 'hv': its channels are plain." in told
    assert len({type(module).__name__ for module in new.modules()}) > 2
    assert max(row.relative for row in equivariance_error(randomise(new.double()).eval(), x.double(), "hv")) < 1e-12
