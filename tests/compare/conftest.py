"""What the tests of the command share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Tests share their cores, and threads that wait for one another are slower than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
