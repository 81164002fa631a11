"""Keeping AutoGraph away from code that needs no rewriting."""

from __future__ import annotations

import inspect

import tensorflow as tf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable


def as_written(call: Callable) -> Callable:
    """A layer's `call` that AutoGraph leaves as it is written.

    In graphs Keras has the `call` of every layer that is not its own rewritten: slower, and what it refuses arrives
    as an error of AutoGraph's. The signature is kept, because Keras looks there for `mask` and `training`.
    """
    kept = tf.autograph.experimental.do_not_convert(call)
    kept.__signature__ = inspect.signature(call)
    return kept
