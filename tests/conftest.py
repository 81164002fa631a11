"""What every test may ask for. Runs on Python 3.7."""

import pytest

# absolute, for values of the size of one; float64 is exact but for the order of sums: flips move numbers, never round
TOLERANCE = {"float64": 1e-12, "float32": 2e-5, "bfloat16": 5e-2}


@pytest.fixture
def tolerance():
    """The one table of tolerances, by dtype."""
    return TOLERANCE
