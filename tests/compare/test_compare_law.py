"""The report says how far each layer of the trained networks is from the law."""

import json
import shutil

import pytest
import torch
from test_compare_labels import hemispheres
from test_compare_labels import task as with_sides
from test_compare_runs import Page
from torch import nn

from symmetric_layers.__main__ import main
from symmetric_layers.compare.data import load
from symmetric_layers.compare.law import layers, part
from symmetric_layers.compare.layers import section
from symmetric_layers.compare.models import example
from symmetric_layers.compare.twins import build
from symmetric_layers.torch import SymmetricConv2d


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished comparison."""
    out = tmp_path_factory.mktemp("compared")
    rows = ("--only", "augment,tta,bank,twin,wide")
    assert main(["compare", "--data", "faces", "--epochs", "1", "--seeds", "1", *rows, "--out", str(out)]) == 0
    return out


def test_every_layer_of_the_trained_twins_obeys_and_the_plain_network_does_not(folder):
    law = json.loads((folder / "results.json").read_text())["law"]
    assert list(law) == ["augment", "twin", "wide"]
    names = [one["layer"] for one in law["twin"]]
    assert names[0] == "encoder.levels.0.0.0"
    assert names[-2:] == ["head", ""]
    assert [one["layer"] for one in law["augment"]] == names
    for row in ("twin", "wide"):
        assert all(one["deviation"] < 1e-12 for one in law[row])
    assert all(one["deviation"] > 1e-3 for one in law["augment"])


def test_the_page_shows_the_law_from_results_alone_and_does_without_it(folder, tmp_path):
    page = (folder / "report.html").read_text()
    law = json.loads((folder / "results.json").read_text())["law"]
    assert "<h2>The law, measured layer by layer</h2>" in page
    assert page.count('<th scope="row">encoder.levels.0.0.0</th>') == 1
    assert f"<td>{law['twin'][0]['deviation']:.1e}</td>" in page
    assert f"<summary>All {len(law['twin']) - 1} layers, in numbers</summary>" in page
    shutil.copy(folder / "results.json", tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_text() == page

    content = json.loads((folder / "results.json").read_text())
    del content["law"]  # as earlier versions wrote it
    (tmp_path / "results.json").write_text(json.dumps(content))
    assert main(["report", str(tmp_path)]) == 0
    assert "measured layer by layer" not in (tmp_path / "report.html").read_text()


def test_few_layers_are_not_folded_away_and_each_says_its_largest():
    text = section(
        {
            "twin": [{"layer": "a", "deviation": 1e-16}, {"layer": "", "deviation": 0.0}],
            "plain": [{"layer": "a", "deviation": 0.5}, {"layer": "b<", "deviation": 2.0}],
        }
    )
    page = Page(text)
    assert "details" not in page.tags
    assert "is 2 with 'plain', 1.0e-16 with 'twin, equal channels'." in page.text
    assert '<th scope="row">b&lt;</th><td>2</td><td>-</td>' in text
    assert text.count("<tr>") == 4
    assert section({}) == ""


def test_the_layer_that_breaks_the_law_stands_where_it_runs():
    first = SymmetricConv2d(1, 4, 3, symmetry={"h": 4})
    second = SymmetricConv2d(4, 4, 3, symmetry={"h": 4}, in_symmetry={"h": 4})
    net = nn.Sequential(first, nn.ReLU(), second, nn.Conv2d(4, 3, 3), nn.Softmax(1))
    found = layers(net, torch.randn(1, 1, 12, 12), load("brain"))
    assert [one["layer"] for one in found] == ["0", "1", "2", "3", "4", ""]
    assert [one["deviation"] > 1e-3 for one in found] == [False, False, False, True, True, True]


def test_of_large_pictures_a_part_with_the_same_remainders_is_followed():
    assert part(torch.zeros(1, 2, 250, 260)).shape == (1, 2, 250, 260)
    assert part(torch.zeros(1, 2, 301, 512)).shape == (1, 2, 64 + 13, 64)
    assert part(torch.zeros(1, 1, 48, 129, 160)).shape == (1, 1, 48, 33, 32)


def test_a_network_that_takes_no_part_is_followed_as_a_whole(monkeypatch):
    monkeypatch.setattr("symmetric_layers.compare.law.LARGE", 100)
    sizes = []

    class Picky(nn.Conv2d):
        def forward(self, x):
            sizes.append(x.shape[-1])
            if x.shape[-1] < 90:
                raise RuntimeError("too small")
            return super().forward(x)

    found = layers(nn.Sequential(Picky(1, 3, 1)), torch.randn(1, 1, 96, 96), load("brain"))
    assert sizes[:2] == [64, 96]
    assert all(one["deviation"] < 1e-12 for one in found)


def test_twins_with_sides_obey_the_law_that_exchanges_them(tmp_path):
    found = with_sides(hemispheres(tmp_path / "data"))
    law = layers(build(found, "twin"), example(found)[:1], found)
    assert all(one["deviation"] < 1e-12 for one in law)
    assert not any(one["layer"].startswith("head.") for one in law)
    plain = layers(build(found, "plain"), example(found)[:1], found)
    assert plain[-1]["deviation"] > 1e-3
