"""The report is drawn from results.json alone, in every form."""

import csv
import json
import shutil
import subprocess

import pytest

from symmetric_layers.__main__ import main

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished comparison."""
    out = tmp_path_factory.mktemp("compared")
    rows = ("--only", "plain,tta,twin")
    assert main(["compare", "--data", "faces", "--epochs", "1", "--seeds", "2", *rows, "--out", str(out)]) == 0
    return out


def printed(capsys, folder, form):
    """What the command prints."""
    capsys.readouterr()
    assert main(["report", str(folder), "--format", form]) == 0
    return capsys.readouterr().out


def test_results_alone_give_the_same_page(folder, tmp_path, capsys):
    shutil.copy(folder / "results.json", tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"Written: {tmp_path / 'report.html'}\n"
    assert (tmp_path / "report.html").read_text() == (folder / "report.html").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "results.json"]


def test_a_page_a_spreadsheet_and_a_program_get_the_same_numbers(folder, capsys):
    rows = json.loads(printed(capsys, folder, "json"))["rows"]
    assert [row["row"] for row in rows] == ["plain", "tta", "twin"]
    sheet = list(csv.DictReader(printed(capsys, folder, "csv").splitlines()))
    assert [float(row["trained"]) for row in sheet] == [row["trained"] for row in rows]
    page = printed(capsys, folder, "md")
    assert page.count("\n|") == 1 + len(rows)
    assert all(f"| {row['trained']:.3f} ± {row['trained_deviation']:.3f} |" in page for row in rows)


@pytest.mark.parametrize("content", [None, "no json", '{"format": 1}'])
def test_a_folder_without_results_is_one_sentence(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"FOLDER: {str(tmp_path / 'results.json')!r} is not what this command writes. Expected its own results.json. "
        "Name another folder.\n"
    )


def test_an_unknown_format_is_one_sentence(folder, capsys):
    assert main(["report", str(folder), "--format", "pdf"]) == 2
    assert capsys.readouterr().err == (
        "--format: 'pdf' is no choice here. Expected 'html' or 'md' or 'csv' or 'json'. Use one of these.\n"
    )


@pytest.mark.skipif(CHROMIUM is None, reason="No chromium here: the page is not opened in a browser.")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_page_without_complaint(folder, tmp_path, width):
    picture = tmp_path / "page.png"
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--hide-scrollbars"]
    size = [f"--window-size={width},1600", f"--screenshot={picture}", f"--user-data-dir={tmp_path / 'profile'}"]
    page = (folder / "report.html").as_uri()
    done = subprocess.run([CHROMIUM, *arguments, *size, page], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert "CONSOLE" not in done.stderr
    assert picture.stat().st_size > 20_000
