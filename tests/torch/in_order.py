"""Triton's interpreter with products of matrices that are summed in one order everywhere, as those of a GPU are.

The interpreter asks NumPy, and NumPy asks BLAS. On processors with AVX2 that sums in another order at the edges of a
matrix than within: two places of a picture would differ in their last bits, whatever the kernel does.

And without what takes three quarters of its time and changes nothing.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from triton.runtime import interpreter


def _dot(self: Any, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: Any) -> Any:
    left, right = (np.ascontiguousarray(one.data, dtype=d.data.dtype) for one in (a, b))
    sums = np.einsum("...mk,...kn->...mn", left, right, optimize=False)  # asks no BLAS: one product after the other
    return interpreter.TensorHandle(sums + d.data, d.dtype.scalar)


def _call(self: Any, *arguments: Any, **named: Any) -> Any:
    """A function that a kernel calls: the kernel, when it was started, has prepared the language for all of them."""
    try:
        return self.rewrite()(*arguments, **named)
    except Exception as error:
        raise interpreter.InterpreterError(repr(error)) from error


interpreter.InterpreterBuilder.create_dot = _dot
interpreter.InterpretedFunction.__call__ = _call
# sums and products of integers are looked at for overflows, and what is found is dropped unless `debug` is on
interpreter.interpreter_builder.options = replace(interpreter.interpreter_builder.options, sanitize_overflow=False)
