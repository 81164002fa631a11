"""The file `results.json`: every finished run, written at once, so that an interruption loses none."""

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from symmetric_layers import SymmetryError, __version__

FORMAT = 2
_PARTS = {"settings", "versions", "runs", "milliseconds", "told", "rows", "seeds", "drawings"}
PACKAGES = ("torch", "lightning", "monai", "torchmetrics", "numpy", "nilearn", "scikit-learn", "scikit-image")


class Results:
    """What is known so far about the runs of one folder.

    A run is a dict with `samples`, `row`, `seed`, the four measurements, `weights`, `passes`, `seconds`, `steps` and
    `rate`. `courses` says what was decided for the training of a row, before it began.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], command: str) -> None:
        self.folder = folder
        self.path = folder / "results.json"
        here = {"settings": settings, "versions": versions()}
        self.content: dict[str, Any] = {"format": FORMAT, "command": command, **json.loads(json.dumps(here))}
        self.content |= {"machine": machine(), "runs": [], "milliseconds": {}, "sentences": [], "told": {}}
        self.content |= {"rows": [], "seeds": 0, "drawings": {}, "law": {}, "courses": {}}
        if self.path.exists():
            self._continue(read(self.path))

    def _continue(self, before: dict[str, Any]) -> None:
        """Takes over what was finished, if it was the same comparison."""
        for part in ("settings", "versions"):
            for name in sorted({*before[part], *self.content[part]}):
                there, here = before[part].get(name), self.content[part].get(name)
                if there != here:
                    raise SymmetryError(
                        f"--out: {str(self.folder)!r} holds another comparison ({name}: {there} there, {here} here). "
                        "Expected a new folder, or the same settings. Choose another --out, or delete this one."
                    )
        self.content |= {"runs": before["runs"], "milliseconds": before["milliseconds"]}
        self.content |= {"courses": before.get("courses", {})}

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The finished runs, in the order in which they were finished."""
        runs: list[dict[str, Any]] = self.content["runs"]
        return runs

    def find(self, samples: int, row: str, seed: int) -> dict[str, Any] | None:
        """This run, if it is finished."""
        key = (samples, row, seed)
        return next((run for run in self.runs if (run["samples"], run["row"], run["seed"]) == key), None)

    def add(self, run: dict[str, Any]) -> None:
        """Keeps a finished run."""
        self.runs.append(run)
        self.write()

    def put(self, **parts: Any) -> None:
        """Keeps something else: `milliseconds`, `sentences`."""
        self.content |= parts
        self.write()

    def write(self) -> None:
        """Writes the file so that it is whole at every moment."""
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
        os.replace(part, self.path)


def writable(folder: Path) -> Path:
    """The folder, made if need be; refused if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)  # several processes may look at once
    except OSError as error:
        raise SymmetryError(
            f"--out: {str(folder)!r} cannot be written to ({error.strerror}). "
            "Expected a folder in which files can be made. Choose another --out."
        ) from error
    return folder


def versions() -> dict[str, str]:
    """What decides about the numbers."""
    found = {"python": platform.python_version(), "symmetric-layers": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # installed under another name
            found[package] = "unknown"
    return found


def machine() -> dict[str, Any]:
    """What decides about the times."""
    return {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()}


def read(path: Path, option: str = "--out") -> dict[str, Any]:
    """The content of a file that this command wrote."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] == FORMAT and content.keys() >= _PARTS:
            return dict(content)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise SymmetryError(
        f"{option}: {str(path)!r} is not what this command writes. Expected its own results.json"
        + (", or none. Choose another --out, or delete the file." if option == "--out" else ". Name another folder.")
    )
