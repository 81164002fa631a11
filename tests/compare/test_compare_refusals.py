"""Every refusal is one sentence on stderr and exit code 2."""

import json

import pytest

from symmetric_layers.__main__ import main

SEE = "See symmetric-layers compare --help."


def refusal(capsys, *arguments):
    """The exit code, and what was complained about."""
    code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert printed.out == ""
    return code, printed.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("compare", "--sedes", "3"),
            "--sedes: this is no option. Expected --data, --model, --model-args, --axes, --left-right-labels, "
            "--symmetry, --size, --batch, --workers, --cache, --train-sizes, --seeds, --epochs, --equal, --lr-search, "
            "--devices, --num-nodes, --strategy, --precision, --accelerator, --log, --only or --out. " + SEE,
        ),
        (
            ("compare", "--seeds"),
            f"arguments: Option '--seeds' requires an argument. Expected compare or report, and their options. {SEE}",
        ),
        (
            ("compare", "--data", "cats"),
            "--data: 'cats' is no choice here. Expected 'brain', 'digits', 'faces', 'textures', a folder with one "
            "subfolder per class, or a table (.csv, .json). Use one of these.",
        ),
        (
            ("compare", "--size", "8x8"),
            "--size: the data set 'brain' has its own. Expected this option with a folder or a table. Leave it out.",
        ),
        (
            ("compare", "--axes", "hx"),
            "--axes: 'hx' is no kind of mirror in 3-D. Expected different letters out of 'h', 'v', 'z'. "
            "Use 'h' or 'v' or 'z' or 'hv' or 'hz' or 'vz' or 'hvz'.",
        ),
        (
            ("compare", "--symmetry", "h"),
            "--symmetry: 'h' is no JSON object. Expected {\"name\": value, ...}. Write it so.",
        ),
        (
            ("compare", "--workers", "-1"),
            "--workers: '-1' is no usable count. Expected a whole number, at least 0. Use such a number.",
        ),
        (
            ("compare", "--only", "plain,twn"),
            "--only: 'twn' is no row. Expected one or more of plain, augment, tta, bank, twin, wide. "
            "Name them with commas in between.",
        ),
        (
            ("compare", "--seeds", "0"),
            "--seeds: 0 is no usable count. Expected a whole number, at least 1. Use such a number.",
        ),
        (
            ("compare", "--seeds", "three"),
            "--seeds: 'three' is no usable count. Expected a whole number, at least 1. Use such a number.",
        ),
        (
            ("compare", "--epochs", "1.5"),
            "--epochs: '1.5' is no usable count. Expected a whole number, at least 1. Use such a number.",
        ),
    ],
)
def test_a_wrong_argument_is_one_sentence(capsys, arguments, sentence):
    assert refusal(capsys, *arguments) == (2, sentence + "\n")


def test_an_unknown_command_is_one_sentence(capsys):
    code, complaint = refusal(capsys, "comprae")
    assert code == 2
    assert complaint.startswith("arguments: No such command 'comprae'.")
    assert complaint.endswith(f". Expected compare or report, and their options. {SEE}\n")
    assert complaint.count("\n") == 1


def test_a_folder_that_cannot_be_made_is_one_sentence(capsys, tmp_path):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    assert refusal(capsys, "compare", "--out", out) == (
        2,
        f"--out: {str(out)!r} cannot be written to (Not a directory). "
        "Expected a folder in which files can be made. Choose another --out.\n",
    )


@pytest.mark.parametrize("content", ["no json", "[]", '{"format": 0}', '{"format": 1}'])
def test_a_strange_results_file_is_one_sentence(tmp_path, content):
    from symmetric_layers import SymmetryError
    from symmetric_layers.compare.results import Results

    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(SymmetryError) as refused:
        Results(tmp_path, {}, "")
    assert str(refused.value) == (
        f"--out: {str(path)!r} is not what this command writes. Expected its own results.json, or none. "
        "Choose another --out, or delete the file."
    )
    assert path.read_text() == content


@pytest.mark.parametrize("part", ["settings", "versions"])
def test_a_folder_with_another_comparison_is_one_sentence(tmp_path, part):
    from symmetric_layers import SymmetryError
    from symmetric_layers.compare.results import Results

    before = Results(tmp_path, {"epochs": 10}, "")
    before.content[part] = {**before.content[part], "epochs": 9}
    before.write()
    kept = json.loads(before.path.read_text())
    here = 10 if part == "settings" else None
    with pytest.raises(SymmetryError) as refused:
        Results(tmp_path, {"epochs": 10}, "")
    assert str(refused.value) == (
        f"--out: {str(tmp_path)!r} holds another comparison (epochs: 9 there, {here} here). "
        "Expected a new folder, or the same settings. Choose another --out, or delete this one."
    )
    assert json.loads(before.path.read_text()) == kept


@pytest.mark.parametrize(("module", "package"), [("typer", "typer"), ("skimage", "scikit-image")])
def test_a_missing_package_is_one_sentence(capsys, monkeypatch, module, package):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    assert refusal(capsys, "compare") == (
        2,
        f"compare needs packages that are not installed: {package}. "
        "Install them with: pip install 'symmetric-layers[compare]'\n",
    )


@pytest.mark.parametrize("arguments", [(), ("--help",), ("compare", "--help")])
def test_help_is_no_error(capsys, arguments):
    assert main(arguments) == 0
    assert "compare" in capsys.readouterr().out


def test_help_names_every_row_and_data_set(capsys):
    main(["compare", "--help"])
    text = capsys.readouterr().out
    assert all(
        name in text
        for name in ("plain:", "augment:", "tta:", "bank:", "twin:", "wide:", "brain", "digits", "faces", "textures")
    )
