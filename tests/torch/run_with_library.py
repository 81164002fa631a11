"""Runs pytest with another build of the fused kernel: `run_with_library.py LIBRARY EXAMPLES [arguments of pytest]`.

Every call has a thread of its own, so that its scratch is fresh and no larger than what this call asks for.
"""

import ctypes
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import pytest

from symmetric_layers.torch.kernels import library, operators, pools


class FewerExamples:
    """A plugin: random tests try so many examples, whatever they say themselves, and no scratch is poisoned."""

    def __init__(self, examples: int) -> None:
        self.examples = examples

    def pytest_collection_modifyitems(self, items: list) -> None:
        import test_cpu  # not earlier: pytest wants to be the one that loads them
        from hypothesis import settings

        test_cpu.poison_scratch = lambda: None  # no call sees what another one left
        for item in items:
            if getattr(item.obj, "is_hypothesis_test", False):
                item.obj._hypothesis_internal_use_settings = settings(max_examples=self.examples, deadline=None)


def run_in_a_fresh_thread(*arguments: Any, **more: Any) -> None:
    with ThreadPoolExecutor(1) as thread:
        thread.submit(library.run, *arguments, **more).result()


if __name__ == "__main__":
    path, examples, *arguments = sys.argv[1:]
    library._library = lru_cache(maxsize=1)(lambda: ctypes.CDLL(path))
    operators.run = pools.run = run_in_a_fresh_thread
    sys.exit(pytest.main(arguments, plugins=[FewerExamples(int(examples))]))
