"""The command line: `symmetric-layers`, or `python -m symmetric_layers`."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from symmetric_layers.errors import SymmetryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Sequence

# module to import: package to install
NEEDED = {
    "torch": "torch",
    "lightning": "lightning",
    "matplotlib": "matplotlib",
    "monai": "monai",
    "nilearn": "nilearn",
    "rich": "rich",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "torchmetrics": "torchmetrics",
    "typer": "typer",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, and returns its exit code: 0, 2 for a refusal, 130 for an interruption."""
    try:
        _check_packages()
        from symmetric_layers.compare.cli import run

        return run(sys.argv[1:] if arguments is None else list(arguments))
    except SymmetryError as refusal:
        print(refusal, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted. What was finished is kept; the same command continues it.", file=sys.stderr)
        return 130


def _check_packages() -> None:
    missing = sorted(package for module, package in NEEDED.items() if not _is_installed(module))
    if missing:
        raise SymmetryError(
            "compare needs packages that are not installed: {}. Install them with: "
            "pip install 'symmetric-layers[compare]'".format(", ".join(missing))
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # somebody put None in sys.modules
        return False


if __name__ == "__main__":
    sys.exit(main())
