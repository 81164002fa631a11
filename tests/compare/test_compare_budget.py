"""What every row gets: as many steps, as much time, a learning rate of its own; and what is written down of it."""

import struct

import folders
import pytest
import torch
from command import kill_in_the_middle, results, start
from tensorboardX.proto.event_pb2 import Event

from symmetric_layers.__main__ import main
from symmetric_layers.compare import cli, experiment, search, training
from symmetric_layers.compare.budget import reference, usual
from symmetric_layers.compare.data.faces import TASK as FACES
from symmetric_layers.compare.learner import Learner
from symmetric_layers.compare.rows import ROWS, choose

FACES_ONCE = ("compare", "--data", "faces", "--epochs", "1", "--seeds", "1")


@pytest.fixture
def steps(monkeypatch):
    """The learning rates of all training steps that are made, by row."""
    made = {}
    real = Learner.training_step

    def counted(self, batch, index):
        made.setdefault(self.row.name, []).append(self.optimizers().param_groups[0]["lr"])
        return real(self, batch, index)

    monkeypatch.setattr(Learner, "training_step", counted)
    return made


def test_every_row_gets_the_whole_steps_that_fit_into_the_time_of_the_plain_one(tmp_path, monkeypatch, steps):
    seconds = {"plain": [1.0, 1.0, 9.0], "bank": [0.4] * 3, "twin": [1.6] * 3}
    monkeypatch.setattr(search, "pace", lambda task, row, crew: seconds[row.name])
    arguments = [*FACES_ONCE, "--only", "plain,bank,twin", "--equal", "time", "--out", str(tmp_path)]
    assert main(arguments) == 0
    expected = {"plain": 10, "bank": 25, "twin": 6}
    assert {name: len(rates) for name, rates in steps.items()} == expected
    for rates in steps.values():  # the schedule fits the steps: up, and down to nearly nothing
        assert max(rates) > 0.9 * FACES.rate
        assert rates[-1] < 0.01 * FACES.rate
    found = results(tmp_path)
    assert {run["row"]: run["steps"] for run in found["runs"]} == expected
    assert found["settings"]["equal"] == "time of plain"
    assert " --equal=time " in found["command"]
    assert found["sentences"][-1] == (
        "Every row got as many steps as fit into the time of 'plain': 10 for 'plain', 25 for 'drop-in banks', 6 for "
        "'twin, equal channels'."
    )


def test_without_a_plain_row_the_first_one_gives_the_time():
    assert reference(ROWS).name == "plain"
    assert reference(choose("wide,twin")).name == "twin"


def test_another_row_that_gives_the_time_is_another_comparison(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(search, "pace", lambda task, row, crew: [1.0] * 3)
    assert main([*FACES_ONCE, "--only", "twin", "--equal", "time", "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main([*FACES_ONCE, "--only", "plain,twin", "--equal", "time", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"--out: {str(tmp_path)!r} holds another comparison (equal: time of twin there, time of plain here). "
        "Expected a new folder, or the same settings. Choose another --out, or delete this one.\n"
    )


def test_a_killed_run_goes_on_with_the_steps_that_were_decided_before_it_began(tmp_path, monkeypatch):
    arguments = ["compare", "--data", "faces", "--epochs", "15", "--seeds", "1", "--only", "plain,twin", "--equal"]
    arguments += ["time", "--out", tmp_path]
    kill_in_the_middle(start(*arguments), tmp_path)
    decided = results(tmp_path)["courses"]["twin"]["steps"]
    assert results(tmp_path)["runs"] == []
    assert decided > 0
    monkeypatch.setattr(search, "pace", None)  # nothing is timed again
    assert main(list(map(str, arguments))) == 0
    assert {run["row"]: run["steps"] for run in results(tmp_path)["runs"]} == {"plain": 150, "twin": decided}


def test_a_few_steps_are_timed_in_a_training_that_leaves_nothing(tmp_path, steps):
    crew = training.Crew()
    assert len(search.pace(FACES, ROWS[4], crew)) == len(steps["twin"]) - 4
    assert all(second > 0 for second in search.pace(FACES, ROWS[1], crew))


def test_each_row_is_searched_alike_on_validation_pictures_before_anything_is_tested(tmp_path, monkeypatch):
    events = []
    for module, name in ((training, "train"), (experiment, "measure")):
        real = getattr(module, name)

        def noted(*given, _real=real, _name=name):
            events.append((_name, *given[3:5]) if _name == "train" else (_name,))
            return _real(*given)

        monkeypatch.setattr(module, name, noted)
    data, out = folders.digits(tmp_path / "digits"), tmp_path / "out"
    arguments = ["compare", "--data", str(data), "--epochs", "1", "--seeds", "1", "--only", "augment,tta,twin"]
    assert main([*arguments, "--lr-search", "--out", str(out)]) == 0
    found = results(out)
    assert found["courses"].keys() == {"augment", "twin"}
    for name, course in found["courses"].items():
        scores = {float(rate): score for rate, score in course["scores"].items()}
        assert sorted(scores) == [0.0025, 0.005, 0.01, 0.02]
        assert scores[course["rate"]] == max(scores.values())
        assert {run["rate"] for run in found["runs"] if name in run["row"]} == {course["rate"]}
    searched, rest = events[:8], events[8:]
    assert {event[:2] for event in searched} == {("train", 2**31 - 1)}  # no run has this seed
    assert [event[2].rate for event in searched] == [0.01, 0.005, 0.02, 0.0025] * 2
    assert [event[0] for event in rest] == ["train", "measure", "measure", "train", "measure"]
    assert {event[1] for event in rest if event[0] == "train"} == {0}
    assert not list((out / "checkpoints").glob("search*"))
    assert found["settings"]["learning_rate_search"] == "0.25, 0.5, 1, 2 times the rate"
    assert " --lr-search " in found["command"]
    assert found["sentences"][-1].startswith("Learning rates were chosen on validation pictures, by one search for all")

    events.clear()
    assert main([*arguments, "--lr-search", "--out", str(out)]) == 0
    assert events == []


def test_the_rate_that_was_found_is_the_one_that_is_trained_with(tmp_path, monkeypatch, steps):
    scores = {0.01: 0.5, 0.04: 0.8, 0.02: 0.7}
    monkeypatch.setattr(experiment, "rate_scores", lambda *_: scores)
    data, out = folders.digits(tmp_path / "digits"), tmp_path / "out"
    arguments = ["compare", "--data", str(data), "--epochs", "1", "--seeds", "1", "--only", "plain", "--lr-search"]
    assert main([*arguments, "--out", str(out)]) == 0
    assert max(steps["plain"]) == pytest.approx(0.04, rel=0.1)
    assert results(out)["runs"][0]["rate"] == 0.04
    (checkpoint,) = (out / "checkpoints").iterdir()
    assert torch.load(checkpoint, weights_only=True)["settings"]["learning_rate"] == 0.04


def events(folder):
    """What is written in TensorBoard's files: tag, step and value; `None` where a restart takes steps back."""
    found = []
    for path in sorted(folder.glob("events*")):
        text = path.read_bytes()
        while text:  # length, its checksum, an event, its checksum
            (length,) = struct.unpack("<Q", text[:8])
            event = Event.FromString(text[12 : 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            found += [(None, event.step, None)] * event.HasField("session_log")
            text = text[16 + length :]
    return found


def test_losses_scores_and_rates_are_logged_for_tensorboard(tmp_path):
    data, out = folders.digits(tmp_path / "digits"), tmp_path / "out"
    arguments = ["compare", "--data", str(data), "--epochs", "2", "--seeds", "1", "--only", "twin", "--log"]
    assert main([*arguments, "tensorboard", "--out", str(out)]) == 0
    (folder,) = (out / "logs").iterdir()
    assert folder.name == "twin-22-seed0"
    logged = events(folder)
    assert [step for tag, step, _ in logged if tag == "loss"] == list(range(20))
    rates = [value for tag, _, value in logged if tag == "lr-AdamW"]
    assert len(rates) == 20
    assert max(rates) == pytest.approx(0.01, rel=0.1)
    scores = [value for tag, _, value in logged if tag == "validation"]
    assert len(scores) == 2
    kept = torch.load(out / "checkpoints" / "twin-22-seed0.ckpt", weights_only=True)
    assert max(scores) == pytest.approx(kept["score"])
    assert "--log" not in results(out)["command"]  # it shapes no number
    assert "log" not in results(out)["settings"]


def test_a_log_goes_on_where_the_training_goes_on(tmp_path):
    done = []

    def tick():
        done.append(1)
        if len(done) == 15:
            raise KeyboardInterrupt

    where = (tmp_path / "net.ckpt", tick, None, tmp_path / "logs")
    with pytest.raises(KeyboardInterrupt):
        training.train(FACES, ROWS[0], 100, 0, usual(FACES, 2), *where)
    training.train(FACES, ROWS[0], 100, 0, usual(FACES, 2), *where)
    logged = events(tmp_path / "logs" / "net")
    restart = logged.index((None, 10, None))
    before = [step for tag, step, _ in logged[:restart] if tag == "loss"]
    assert [step for step in before if step < 10] == list(range(10))
    assert [step for tag, step, _ in logged[restart:] if tag == "loss"] == list(range(10, 20))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("--equal", "effort"),
            "--equal: 'effort' is no choice here. Expected 'steps' or 'time'. Use one of these.",
        ),
        (
            ("--lr-search",),
            "--lr-search: the data set 'faces' has no validation pictures, and test pictures must not choose. Expected "
            "a folder or a table. Leave it out.",
        ),
        (
            ("--log", "paper"),
            "--log: 'paper' is no choice here. Expected 'tensorboard'. Use one of these.",
        ),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(capsys, tmp_path, options, sentence):
    assert main(["compare", "--data", "faces", *options, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == sentence + "\n"


def test_a_missing_package_for_the_log_is_one_sentence(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert main([*FACES_ONCE, "--log", "tensorboard", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        "--log: 'tensorboard' needs a package that is not installed. Expected tensorboard or tensorboardX. Install it "
        "with: pip install tensorboardX\n"
    )
