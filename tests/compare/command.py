"""Runs the command line as people do: in a process of its own."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path


def start(*arguments, code="from symmetric_layers.__main__ import main; sys.exit(main())"):
    """Starts `symmetric-layers` with these arguments; Python's own way to handle Ctrl-C, wherever the test runs."""
    ready = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); " + code
    return subprocess.Popen(
        [sys.executable, "-c", ready, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def run(*arguments, **options):
    """Runs it to its end: the exit code, what it printed, what it complained about."""
    process = start(*arguments, **options)
    out, complaint = process.communicate(timeout=240)
    return process.returncode, out, complaint


def results(folder):
    """What results.json says."""
    return json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))


def interrupt_after_one_run(process, folder):
    """Ctrl-C as soon as one run is finished: the exit code, what was printed, what was complained about."""
    path = Path(folder) / "results.json"
    deadline = time.monotonic() + 200
    while not (path.exists() and json.loads(path.read_text(encoding="utf-8"))["runs"]):
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"no run was finished: {process.communicate()}")
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, complaint = process.communicate(timeout=120)
    return process.returncode, out, complaint


def kill_in_the_middle(process, folder):
    """SIGKILL as soon as one epoch is finished: the file that was left to go on from."""
    deadline = time.monotonic() + 200
    left = []
    while not left:
        left = list((Path(folder) / "checkpoints").glob("*.running"))
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"no epoch was finished: {process.communicate()}")
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=120)
    return left[0]
