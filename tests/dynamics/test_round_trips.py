"""How often a flow waits for numbers of its device: a GPU stands still meanwhile."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sklearn_gflow.dynamics import BlockOptions, Epoch, FlowOptions, block_flow
from tests.dynamics.problems import Flow
from tests.dynamics.test_blocks import Source

pytestmark = pytest.mark.slow


class Reads(TorchDispatchMode):
    """Counts the numbers that Python reads from tensors."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        waits = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default)
        self.count += func in waits
        return func(*args, **(kwargs or {}))


def reads(n_blocks, n_epochs=1, *, averaged):
    problem = Flow(n=24, sizes=(2, 10, 1))
    with Reads() as found:
        block_flow(
            Source(problem), problem.theta, [Epoch(0.1, 0.1)] * n_epochs,
            FlowOptions(alpha=0.5, damping=0.1),
            BlockOptions(24 // n_blocks, momentum=0.5, averaged=averaged),
            probe=(problem.map, problem.cost),
        )  # fmt: skip
    return found.count


@pytest.mark.parametrize("averaged", [False, True])
def test_a_block_reads_few_numbers(averaged):
    # Its loss, which says whether the epoch is lost; the trace for the ridge; the rest says whether
    # the factor is finite and positive, how it is conditioned, and how long a series must be.
    per_block = (reads(12, averaged=averaged) - reads(6, averaged=averaged)) / 6
    assert per_block <= 9
