"""How the benchmarks measure: every candidate in turn, many rounds, medians, one process."""

import os
import pathlib
import platform
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

ROUNDS = 15

# What glibc does with freed memory depends on what was freed before, and large answers take four times as long where it
# goes back to the system, which clears it page by page for whoever asks next.
STAYS = {"MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_MMAP_THRESHOLD_": str(1 << 40)}
GOES_BACK = {"MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": str(1 << 16)}


def memory_stays() -> None:
    """Begins again, with freed memory staying in the process, so that all runs measure the same."""
    if not set(STAYS) & set(os.environ):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **STAYS})


class Times:
    """What was measured: seconds per candidate, turn by turn."""

    def __init__(self, names: list[str]) -> None:
        self.turns: dict[str, list[float]] = {name: [] for name in names}

    def milliseconds(self, name: str) -> float:
        """The median time of one candidate."""
        return statistics.median(self.turns[name]) * 1e3

    def ratio(self, name: str, rival: str) -> float:
        """The median over all turns of how much longer a candidate took than its rival in the same turn."""
        return statistics.median(a / b for a, b in zip(self.turns[name], self.turns[rival], strict=True))


def side_by_side(candidates: dict[str, Callable[[], object]], rounds: int = ROUNDS, warm_up: int = 3) -> Times:
    """Times all candidates: they take turns, so that what slows the machine down slows all of them.

    Every round has an order of its own, so that nobody always follows the same one: who comes first finds the caches
    cold, and whose memory was given back to the system asks for every page anew.
    """
    times, order, dice = Times(list(candidates)), list(candidates), random.Random(0)
    for turn in range(warm_up + rounds):
        dice.shuffle(order)
        for name in order:
            start = time.perf_counter()
            candidates[name]()
            if turn >= warm_up:
                times.turns[name].append(time.perf_counter() - start)
    return times


def _known(what: str) -> str:
    known = pathlib.Path("/proc/cpuinfo")
    cpuinfo = known.read_text().splitlines() if known.exists() else []
    return next((line.split(":")[1].strip() for line in cpuinfo if line.startswith(what)), "")


def maker() -> str:
    """Who made the processor, as it says itself; empty where nothing says so."""
    return _known("vendor_id")


def family() -> int:
    """Which family of its maker's processors it belongs to; 0 where nothing says so."""
    return int(_known("cpu family") or 0)


def machine() -> str:
    """The processor and the commit, for the line above a table."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return f"{_known('model name') or platform.processor()}, commit {commit or 'unknown'}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def put(page: pathlib.Path, name: str, text: str) -> None:
    """Writes a table into a page, between its marks."""
    marks = rf"(<!-- table: {name} -->\n).*?(<!-- end of table -->)"
    written, count = re.subn(marks, lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page.read_text(), flags=re.S)
    if count != 1:
        raise SystemExit(f"{page} has {count} places marked for the table {name!r}. Expected one.")
    page.write_text(written)
