"""The README's lines for TensorFlow 1.15, as a user runs them."""

import os
import subprocess
import sys

from snippets import ROOT, snippets


def test_the_readmes_snippet_runs_as_it_stands(tmp_path):
    (code,) = [code for section, _, code in snippets("README.md") if section == "TensorFlow 1.15"]
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "src"), TF_CPP_MIN_LOG_LEVEL="3")
    printed = subprocess.check_output([sys.executable, "-W", "ignore", "-c", code], cwd=str(tmp_path), env=environment)
    assert printed.decode().strip() == "(?, 24, 24, 32)"
