"""The command, from end to end."""

import json
from html.parser import HTMLParser

import pytest
import torch
from command import interrupt_after_one_run, kill_in_the_middle, results, run, start

from symmetric_layers.__main__ import main
from symmetric_layers.compare.learner import Learner

TINY = ("--epochs", "1", "--seeds", "1")
MEASURED = {"trained", "other", "changed", "largest_difference"}


class Page(HTMLParser):
    """What a report contains."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def scores(folder):
    """The scores of all runs, by row."""
    return {
        (run["samples"], run["row"], run["seed"]): [run[name] for name in sorted(MEASURED)]
        for run in results(folder)["runs"]
    }


@pytest.mark.parametrize("name", ["brain", "digits", "faces", "textures"])
def test_every_data_set_is_compared_and_reported(name, tmp_path):
    rows = "plain,augment,tta,bank,twin,wide" if name == "textures" else "tta,twin"
    code, out, complaint = run("compare", "--data", name, *TINY, "--only", rows, "--out", tmp_path)
    assert (code, complaint) == (0, "")
    found = results(tmp_path)
    assert {run["row"] for run in found["runs"]} == set(rows.split(","))
    for one in found["runs"]:
        assert set(one) == MEASURED | {"samples", "row", "seed", "weights", "passes", "seconds", "steps", "rate"}
        assert all(0 <= one[measure] <= 1 for measure in MEASURED)
        assert one["changed"] == 0 or one["row"] in ("plain", "augment", "bank")
    assert set(found["milliseconds"]) == set(rows.split(","))
    assert found["settings"]["data"] == name
    assert found["settings"]["epochs"] == 1
    assert {"torch", "lightning", "monai", "symmetric-layers"} <= set(found["versions"])
    assert found["command"].startswith(f"symmetric-layers compare --data={name} --seeds=1 --epochs=1")
    assert all(" ".join(sentence.split()) in " ".join(out.split()) for sentence in found["sentences"])
    check_report((tmp_path / "report.html").read_text(encoding="utf-8"), found, rows.split(","), name)


def check_report(text, found, rows, name):
    """The report is whole, says what the data are, and needs nothing from outside."""
    page = Page(text)
    assert page.open == []
    assert "http:" not in text.replace("http://www.w3.org", "")
    assert "https:" not in text
    assert "$" not in page.text
    assert not {"script", "link", "iframe"} & set(page.tags)
    for tag, attributes in page.attributes:
        if tag == "img":
            assert attributes["alt"]
            assert attributes["src"].startswith("data:image/png;base64,")
        assert attributes.get("class") != "plot" or " against " in attributes["alt"]
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
    assert all(sentence in page.text for sentence in found["sentences"])
    assert found["command"] in page.text
    assert page.tags.count("svg") == len([row for row in rows if row != "tta" and (row != "augment")] or [1])
    if name == "brain":
        assert "This says nothing about new patients." in page.text
        assert page.tags.count("img") == 3 * (1 + len(rows)) + 3  # two plots of scores, one of the law


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_continues_it(tmp_path):
    # long enough that the interruption comes in the middle, short enough for a test
    arguments = ["compare", "--data", "digits", "--epochs", "2", "--seeds", "2", "--only", "plain,twin", "--out"]
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    code, out, complaint = interrupt_after_one_run(start(*arguments, broken), broken)
    assert code == 130
    assert complaint == "Interrupted. What was finished is kept; the same command continues it.\n"
    assert "plain" in out
    before = results(broken)["runs"]
    assert 1 <= len(before) < 8

    assert main([*arguments, str(broken)]) == 0
    after = results(broken)["runs"]
    assert len(after) == 8
    assert after[: len(before)] == before  # seconds and all: nothing was trained again

    assert main([*arguments, str(whole)]) == 0
    assert scores(broken) == scores(whole)  # the same numbers a second time, in another process


def test_a_killed_run_goes_on_where_it_was_and_gives_the_same_table(tmp_path):
    arguments = ["compare", "--data", "digits", "--epochs", "8", "--seeds", "1", "--only", "augment", "--out"]
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    process = start(*arguments, broken)
    left = kill_in_the_middle(process, broken)
    epochs = torch.load(left, weights_only=True)["epoch"]
    assert 0 <= epochs < 7
    assert results(broken)["runs"] == []

    begun = []
    real = Learner.on_train_epoch_start
    Learner.on_train_epoch_start = lambda self: begun.append(self.current_epoch) or real(self)
    try:
        assert main([*arguments, str(broken)]) == 0
    finally:
        Learner.on_train_epoch_start = real
    assert begun[0] == epochs + 1  # the second training, of fewer pictures, begins at 0
    assert begun.count(0) == 1
    assert main([*arguments, str(whole)]) == 0
    assert scores(broken) == scores(whole)
    assert not list((broken / "checkpoints").glob("*.running"))


def test_a_finished_comparison_is_only_drawn_again(tmp_path, monkeypatch, capsys):
    from symmetric_layers.compare import training

    arguments = ["compare", "--data", "faces", *TINY, "--only", "plain,twin", "--out", str(tmp_path)]
    assert main(arguments) == 0
    first = results(tmp_path)
    capsys.readouterr()
    monkeypatch.setattr(training, "train", None)
    assert main(arguments) == 0
    assert results(tmp_path) == first
    assert "twin, equal channels" in capsys.readouterr().out

    assert main([*arguments, "--epochs", "2"]) == 2
    assert capsys.readouterr().err == (
        f"--out: {str(tmp_path)!r} holds another comparison (epochs: 1 there, 2 here). "
        "Expected a new folder, or the same settings. Choose another --out, or delete this one.\n"
    )
    assert results(tmp_path) == first


def test_more_seeds_and_rows_continue_a_comparison(tmp_path):
    start_with = ["compare", "--data", "faces", "--epochs", "1", "--out", str(tmp_path)]
    assert main([*start_with, "--seeds", "1", "--only", "augment"]) == 0
    first = results(tmp_path)["runs"]
    assert main([*start_with, "--seeds", "2", "--only", "augment,tta"]) == 0
    after = results(tmp_path)["runs"]
    assert after[0] == first[0]
    assert [(one["row"], one["seed"]) for one in after] == [("augment", 0), ("tta", 0), ("augment", 1), ("tta", 1)]
    assert after[0]["seconds"] == after[1]["seconds"]  # one network, trained once
    assert json.loads((tmp_path / "results.json").read_text())["format"] == 2


def test_the_number_of_threads_does_not_depend_on_the_machine(tmp_path):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert main(["compare", "--data", "faces", *TINY, "--only", "twin", "--out", str(tmp_path)]) == 0
        assert torch.get_num_threads() == results(tmp_path)["settings"]["threads"] == 1
        assert not torch.are_deterministic_algorithms_enabled()  # what Lightning switches on is switched off again
    finally:
        torch.set_num_threads(threads)
