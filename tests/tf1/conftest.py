"""These tests need TensorFlow 1, which later Pythons do not have: there, none of them is so much as imported."""

import os
import sys

if sys.version_info >= (3, 8):
    collect_ignore_glob = ["*.py"]
else:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
