"""The report is drawn from results.json alone, in every form."""

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from symmetric_layers.__main__ import main

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--enable-logging=stderr", "--hide-scrollbars",
)  # fmt: skip
ARTIFACTS = Path(__file__).parents[2] / "artifacts"  # kept, to be looked at
NARROWEST = 500  # of a window; a frame inside can be narrower
# what reaches beyond the page, and can only be reached by scrolling the whole page
MEASURE = """<script>
const wide = [...document.querySelectorAll("main *")].filter(
  (one) => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".wide"));
console.log("MEASURED", innerWidth, document.documentElement.scrollWidth, document.documentElement.scrollHeight,
  wide.map((one) => one.tagName).join() || "nothing", "END");
</script></body>"""


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


def browse(page, place, width, height, *arguments):
    """Opens a page in a frame of this size; what the browser says, all messages of the console among it."""
    frame = place / "frame.html"
    style = f"border: 0; width: {width}px; height: {height}px"
    frame.write_text(f'<!doctype html><body style="margin: 0"><iframe src="{page.as_uri()}" style="{style}"></iframe>')
    window = f"--window-size={max(width, NARROWEST)},{height}"
    profile = f"--user-data-dir={place / 'profile'}"
    command = [CHROMIUM, *FLAGS, window, profile, *(arguments or ("--dump-dom",)), frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    return done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="No chromium here: the page is not opened in a browser.")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_page_without_complaint(folder, tmp_path, width):
    page, measured = folder / "report.html", tmp_path / "measured.html"
    measured.write_text(page.read_text().replace("</body>", MEASURE))
    said = browse(measured, tmp_path, width, 1600)  # says, too, that what a console is told arrives here
    inner, scrolled, height, wide = re.search(r"MEASURED (\d+) (\d+) (\d+) (.*) END", said).groups()
    assert (int(inner), int(scrolled), wide) == (width, width, "nothing")

    ARTIFACTS.mkdir(exist_ok=True)
    picture = ARTIFACTS / f"report-{width}.png"
    picture.unlink(missing_ok=True)
    said = browse(page, tmp_path, width, int(height), f"--screenshot={picture}")
    assert "CONSOLE" not in said
    with Image.open(picture) as shown:
        shown.crop((0, 0, width, int(height))).save(picture)
    assert picture.stat().st_size > 20_000
