"""The programs in examples/, run as a user would run them, but shorter."""

import os
import re
import subprocess
import sys

import pytest
from snippets import ROOT

PROGRAMS = {  # arguments that make it short, the file it leaves behind, how far the twin may be from the law
    "super_resolution.py": (["--steps", "2"], "super_resolution.png", 1e-4),
    "keras_digits.py": (["1"], "keras_digits.keras", 1e-4),
    "flax_textures.py": (["2"], None, 1e-4),
}


def test_every_program_is_tried():
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == {*PROGRAMS}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_trains_a_network_and_its_twin_and_says_what_a_mirror_changes(name, tmp_path):
    arguments, file, allowed = PROGRAMS[name]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "agg"}
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=250)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(plain|twin) .* (\S+) of the largest value$", done.stdout, re.MULTILINE)
    changes = {network: float(change) for network, change in rows}
    assert changes["twin"] < allowed < changes["plain"]
    assert file is None or (tmp_path / file).stat().st_size > 0
    assert "OTHER" not in done.stdout
