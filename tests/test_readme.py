"""What the README says is so: every snippet runs, every link leads somewhere, every number was written by a command."""

import os
import re
import subprocess
import sys

import pytest
from snippets import ROOT, snippets

PAGES = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").glob("*.md")))]
SNIPPETS = [
    pytest.param(section, code, id=f"{page}-{number}")
    for page in PAGES
    for section, number, code in snippets(page)
    if section != "TensorFlow 1.15"  # tests/tf1 runs that one, where TensorFlow 1.15 is
]


def run(code, tmp_path):
    """A snippet, as a user would run it: in a fresh process, somewhere else."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=250
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(("section", "code"), SNIPPETS)
def test_every_snippet_runs_and_prints_what_it_says(section, code, tmp_path):
    printed = run(code, tmp_path).splitlines()
    said = re.findall(r"print\(.*\)\s*# (torch\.Size\(\[[^\]]*\]\))", code)
    for line in said:
        assert line in printed
    if "about 1e-16" in code:
        (error,) = re.findall(r"tensor\(([^,]*),", printed[-1])
        assert float(error) < 1e-14


def test_the_drawing_of_a_plan_is_the_printed_one(tmp_path):
    (code,) = [code for _, _, code in snippets("README.md") if code.startswith("from symmetric_layers import plan")]
    assert "```\n" + run(code, tmp_path) + "```" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_link_leads_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), target


def test_the_two_commands_stand_on_the_first_screen():
    first_screen = (ROOT / "README.md").read_text().splitlines()[:30]
    assert any(line.startswith("make demo") for line in first_screen)
    assert any(line.startswith("make test") for line in first_screen)


def test_tables_say_where_their_numbers_come_from():
    text = (ROOT / "README.md").read_text()
    tables = re.findall(r"<!-- table: \w+ -->\n(.*?)<!-- end of table -->", text, flags=re.S)
    assert len(tables) == 2
    for table in tables:
        assert "commit" in table
        assert table.count("\n|") >= 4
