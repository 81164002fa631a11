"""The door to the algorithms: layers call `conv` and `conv_transpose`, and do not know how the answer is made."""

from symmetric_layers.torch.kernels.channels import per_block, spread
from symmetric_layers.torch.kernels.reference import conv, conv_transpose, expand_bias, expand_weight

__all__ = ["conv", "conv_transpose", "expand_bias", "expand_weight", "per_block", "spread"]
