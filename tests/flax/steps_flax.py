"""Small networks of single steps."""

from flax import nnx


def through(*inner, out=None):
    """A network with these steps between its first layer and its last."""
    rngs = nnx.Rngs(1)
    lead, last = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.Conv(4, 2, (1, 1), rngs=rngs)
    return nnx.Sequential(lead, *inner, last if out is None else out)


def conv(inner, outer, *size, **more):
    return nnx.Conv(inner, outer, size or (3, 3), rngs=nnx.Rngs(2), **more)


def tokens(x):
    return x.reshape(x.shape[0], -1, x.shape[-1])


class Call(nnx.Module):
    """A step that is written in a call."""

    def __init__(self, step, **parts):
        self.step = (step,)
        for name, part in parts.items():
            setattr(self, name, part)

    def __call__(self, *arguments, **others):
        return self.step[0](self, *arguments, **others)
