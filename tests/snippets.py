"""The code blocks of README.md and docs, by section. Runs on Python 3.7."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent


def snippets(page):
    """`(section, number, code)` of every Python block of a page."""
    section, number, code = "", 0, None
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines(True):
        heading = re.match(r"#+ (.*)", line)
        if code is not None:
            if line.startswith("```"):
                yield section, number, code
                code = None
            else:
                code += line
        elif line.startswith("```python"):
            number, code = number + 1, ""
        elif heading:
            section = heading.group(1)
