"""The examples in the docstrings of a face, run as they stand."""

import doctest
import importlib
import pathlib
import pkgutil


def modules(face):
    """The names of all modules of a face, those that are written in Python."""
    places = pkgutil.walk_packages(face.__path__, face.__name__ + ".")
    return [place.name for place in places if _is_python(place)]


def run(name, face, **known):
    """How many examples of a module there are, and how many do not give what they say."""
    known.update({each: getattr(face, each) for each in face.__all__})
    found = doctest.testmod(importlib.import_module(name), extraglobs=known)
    return found.attempted, found.failed


def silent(face):
    """What a face offers without an example."""
    offered = {each: getattr(face, each) for each in face.__all__}
    return [each for each, what in offered.items() if callable(what) and ">>>" not in (what.__doc__ or "")]


def _is_python(place):
    path = pathlib.Path(place.module_finder.path, place.name.rpartition(".")[2])
    return path.is_dir() or path.with_suffix(".py").exists()
