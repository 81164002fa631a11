"""The door to the algorithms: layers call `answer` or `conv`, and do not know how it is made.

A layer may keep the `Note` that comes with an answer, and ask `recall` first.
"""

from symmetric_layers.torch.kernels.channels import per_block, spread
from symmetric_layers.torch.kernels.direct import Note, recall
from symmetric_layers.torch.kernels.dispatch import ALGORITHMS, TRANSPOSED, answer, conv, explain
from symmetric_layers.torch.kernels.job import Job, asked, per_axis
from symmetric_layers.torch.kernels.reference import expand_bias, expand_weight
from symmetric_layers.torch.kernels.transposed import Transposed, output_padding_for

__all__ = [
    "ALGORITHMS",
    "TRANSPOSED",
    "Job",
    "Note",
    "Transposed",
    "answer",
    "asked",
    "conv",
    "expand_bias",
    "expand_weight",
    "explain",
    "output_padding_for",
    "per_axis",
    "per_block",
    "recall",
    "spread",
]
