"""Which algorithm makes the answer: a choice is obeyed or refused, only `'auto'` chooses, and it can be asked why.

An algorithm is a module with `conv(job)`. The reference does everything. The others may have `why_not(job)` (what they
cannot do exactly) and `slower(job)` (why the reference is faster here, a rule that was measured); both give one clause,
or None. `direct.py` answers where all this was asked before.
"""

from types import ModuleType

from torch import Tensor

from symmetric_layers.errors import SymmetryError
from symmetric_layers.torch.kernels import cpu, cpu_transposed, direct, folded, reference, transposed
from symmetric_layers.torch.kernels.direct import Note
from symmetric_layers.torch.kernels.job import Job
from symmetric_layers.torch.kernels.transposed import Transposed

_FAST: dict[str, ModuleType] = {"cpu": cpu, "folded": folded}  # those that 'auto' asks, the fastest first
_ALGORITHMS: dict[str, ModuleType] = {"reference": reference, **_FAST}
_TRANSPOSED: dict[str, ModuleType] = {"reference": transposed, "cpu": cpu_transposed}

ALGORITHMS = ("auto", *_ALGORITHMS, "triton")
TRANSPOSED = ("auto", *_TRANSPOSED)


def conv(job: Job | Transposed, algorithm: str = "auto") -> Tensor:
    """The answer, made by the algorithm of this name.

    Raises:
        SymmetryError: for an algorithm that cannot do this job exactly.
    """
    return _made(job, algorithm) if isinstance(job, Transposed) else answer(job, algorithm)[0]


def answer(job: Job, algorithm: str) -> tuple[Tensor, Note | None]:
    """The same, and how the next job like it is answered without a question; None where that cannot be."""
    note = direct.take_note(job, algorithm)
    if note is not None:
        return note.how(job.x, job.weight, job.bias), note
    return _made(job, algorithm), None


def _made(job: Job | Transposed, algorithm: str) -> Tensor:
    if algorithm == "auto":
        return _algorithm(job, chosen(job)).conv(job)
    clause = _cannot(job, algorithm)
    if clause:
        raise SymmetryError(
            f"algorithm: {algorithm!r} cannot answer this: {clause}. Expected an algorithm that can. "
            "Use 'auto', which chooses among those that can."
        )
    return _algorithm(job, algorithm).conv(job)


def chosen(job: Job | Transposed) -> str:
    """The algorithm that `'auto'` takes."""
    for name in _candidates(job):
        if _slower(job, name) is None and _cannot(job, name) is None:
            return name
    return "reference"


def _candidates(job: Job | Transposed) -> list[str]:
    """The algorithms that could be faster than the reference, the fastest first."""
    if isinstance(job, Transposed):
        return ["cpu"]
    return ["triton", *_FAST] if _is_on_a_gpu(job) else list(_FAST)


def explain(job: Job | Transposed, algorithm: str) -> str:
    """Which algorithm is taken, and for each that could be faster why it is not."""
    if algorithm != "auto":
        clause = _cannot(job, algorithm)
        return f"{algorithm!r} is refused: {clause}." if clause else f"{algorithm!r} is taken, as the layer says."
    taken = chosen(job)
    lines = [f"{taken!r} is taken."]
    for name in _candidates(job):
        if name == taken:
            break
        lines.append(f"{name!r} is not: {_cannot(job, name) or _slower(job, name)}.")
    return "\n".join(lines)


def _is_on_a_gpu(job: Job) -> bool:
    return job.x.device.type == "cuda"


def _algorithm(job: Job | Transposed, name: str) -> ModuleType:
    if isinstance(job, Transposed):
        return _TRANSPOSED[name]
    if name == "triton":
        from symmetric_layers.torch.kernels import triton  # not earlier: most have no use for it

        return triton
    return _ALGORITHMS[name]


def _cannot(job: Job | Transposed, name: str) -> str | None:
    ask = getattr(_algorithm(job, name), "why_not", None)
    return ask(job) if ask else None


def _slower(job: Job | Transposed, name: str) -> str | None:
    ask = getattr(_algorithm(job, name), "slower", None)
    return ask(job) if ask else None
