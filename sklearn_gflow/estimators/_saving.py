"""Models in files that hold no code: `save` and `load`."""

from __future__ import annotations

import os
from typing import Any

from sklearn_gflow import archive
from sklearn_gflow.contract import VERSION, warn_of_version
from sklearn_gflow.estimators._forms import MODELS, Reader, Writer
from sklearn_gflow.exceptions import ArchiveError

__all__ = ["load", "save"]

_WHAT = "model of sklearn_gflow"
_FORMAT = 1
# What a file may lead the classes of this package to that is none of theirs: the file is to blame.
_OF_OTHER_FORM = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a model into a file of arrays and JSON.

    The file is one of safetensors: parameters and fitted state as JSON in its header, arrays beside
    them. There is no code in it, and `load` runs none. It replaces what was there in one step, or
    leaves it where writing fails. What a pickle leaves out it leaves out too: ``ntk_gram_`` is
    there with ``store_gram=True``.

    Parameters
    ----------
    model : estimator
        An estimator, a search or a transformer of this package, fitted or not.
    path : str or path-like
        The file; by custom its name ends in ".safetensors".

    Raises
    ------
    ValueError
        If the model is of another class, or holds what no such file can: a ``module``, ``loss`` or
        ``solver`` of your own, a transformer of scikit-learn as ``encoding``, a generator of random
        numbers. The message names the parameter. A pickle, or skops, holds these.
    OSError
        If the file cannot be written.

    See Also
    --------
    load : Read it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_gflow import AdaptedFlowClassifier, load, save
    >>> X, y = load_iris(return_X_y=True)
    >>> model = AdaptedFlowClassifier((16,), random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(model, Path(folder) / "iris.safetensors")
    ...     again = load(Path(folder) / "iris.safetensors")
    >>> bool((again.predict_proba(X) == model.predict_proba(X)).all())
    True
    """
    if MODELS.get(type(model).__name__) is not type(model):
        raise ValueError(
            f"save writes estimators and transformers of this package, {', '.join(MODELS)}; model "
            f"is a {type(model).__name__}: save what it is made of, pickle it, or write it by skops"
        )
    writer = Writer()
    writer.object(model, "")
    facts = {"what": _WHAT, "format": _FORMAT, "version": VERSION, "objects": writer.objects}
    archive.write(path, writer.arrays, facts)


def load(path: str | os.PathLike[str]) -> Any:
    """Read a model that `save` has written.

    What a file can name are the classes of this package and a few of scikit-learn that they use;
    no code is run but theirs. A file may be read without trust in who wrote it, but predictions of
    a model deserve as much trust as its author.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    estimator
        It predicts to the bit as the one that was written.

    Raises
    ------
    ArchiveError
        If the file is torn, was changed, holds no model, or is in a form that came later.
    OSError
        If there is no file, or it cannot be read.

    Warns
    -----
    VersionWarning
        If another version of the package wrote it.

    See Also
    --------
    save : Write it.
    """
    arrays, facts = archive.read(path)
    name = os.fspath(path)
    try:
        if facts["what"] != _WHAT:
            raise ArchiveError(f"{name!r} holds no model, but {facts['what']!r}")
        if facts["format"] != _FORMAT:
            raise ArchiveError(
                f"{name!r} was written by version {facts['version']} of sklearn_gflow in format "
                f"{facts['format']}, and this version reads format {_FORMAT}; install that version"
            )
        warn_of_version(repr(name), facts["version"], stacklevel=2)
        model = Reader(arrays).read(facts["objects"])
    except ArchiveError:
        raise
    except _OF_OTHER_FORM as error:
        raise ArchiveError(
            f"{name!r} is no model that this package has written, or its form is another: "
            f"{type(error).__name__}: {error}; write it anew, or take another copy"
        ) from error
    if MODELS.get(type(model).__name__) is not type(model):
        raise ArchiveError(f"{name!r} holds no model, but a {type(model).__name__}")
    return model
