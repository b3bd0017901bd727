"""Arrays and JSON in one file: written whole or not at all, and read without running any code.

The file is one of safetensors. Its header holds the facts as JSON, and a checksum of all that the
file tells, so that a file that was torn or changed is known for one.
"""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sklearn_gflow.exceptions import ArchiveError

__all__ = ["DTYPES", "read", "tidy", "write"]

_FACTS, _CHECKSUM = "facts", "sha256"
_UNFINISHED, _TOKEN_BYTES, _LONGEST_NAME = ".tmp", 8, 40
_LENGTH = 8  # bytes in front of the header, which tell how long it is
DTYPES = {
    np.dtype(kind)
    for kind in ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
}
"""Types of arrays that a file can hold."""


def write(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], facts: Any) -> None:
    """Write arrays and facts, in one step that replaces what was at ``path``.

    They go into a new file of the same folder, which is brought to the disk and then takes the
    name. Whatever fails on the way, a full disk for one, leaves the former file as it was.

    Parameters
    ----------
    path : str or path-like
        Where to. A link is followed.
    arrays : dict of ndarray
        Truth values, integers, or numbers of up to 64 bits, of any shape. They are copied into
        memory once.
    facts : dict
        What JSON can hold. Keys are strings, numbers finite.

    Raises
    ------
    TypeError
        If facts hold what JSON has no form for.
    ValueError
        If an array has another type, or facts hold a number that is not finite.
    OSError
        If the file cannot be written.
    """
    content = _content(arrays, facts)
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f"{_beside(target)}{secrets.token_hex(_TOKEN_BYTES)}{_UNFINISHED}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _bring_to_disk(target.parent)


def tidy(path: str | os.PathLike[str]) -> None:
    """Remove what is left beside a file of writes that were killed.

    Parameters
    ----------
    path : str or path-like
        The file, which nobody else writes meanwhile.
    """
    target = Path(os.path.realpath(path))
    token = "[0-9a-f]" * 2 * _TOKEN_BYTES
    for left in target.parent.glob(f"{glob.escape(_beside(target))}{token}{_UNFINISHED}"):
        left.unlink(missing_ok=True)


def _beside(target: Path) -> str:
    """How the names of unfinished files begin; a name may not become too long."""
    return f".{target.name[:_LONGEST_NAME]}."


def read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], Any]:
    """Arrays and facts of a file that `write` has written.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    arrays : dict of ndarray
        By the names that they were written by; each may be written to.
    facts : dict
        As they were.

    Raises
    ------
    ArchiveError
        If the file is torn, was changed, or is of another kind.
    OSError
        If there is no file, or it cannot be read.
    """
    content = _read_bytes(Path(path))
    try:
        metadata = _metadata(content)
        arrays = {name: array.copy() for name, array in load(content).items()}
        facts = _parsed(metadata[_FACTS])
    # A KeyError stands for a missing entry, or for a type of array that numpy has not.
    except (SafetensorError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ArchiveError(_said_of(path, str(error))) from error
    if metadata != {_FACTS: metadata[_FACTS], _CHECKSUM: _checksum(arrays, metadata[_FACTS])}:
        raise ArchiveError(_said_of(path, "its checksum is another"))
    return arrays, facts


def _content(arrays: Mapping[str, np.ndarray], facts: Any) -> bytes:
    """The bytes of a file."""
    for name, array in arrays.items():
        if array.dtype.newbyteorder("=") not in DTYPES:
            raise ValueError(f"array {name!r} has type {array.dtype}, which no archive holds")
    little = {
        # ascontiguousarray gives every array an axis.
        name: np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
        for name, array in arrays.items()
    }
    written = json.dumps(facts, allow_nan=False, ensure_ascii=True)
    return save(little, {_FACTS: written, _CHECKSUM: _checksum(little, written)})


def _read_bytes(path: Path) -> bytes:
    """All of a file whose beginning is that of an archive; of others no more than this."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        beginning = file.read(_LENGTH + 1)
        length = int.from_bytes(beginning[:_LENGTH], "little")
        if not beginning.endswith(b"{") or length > size - _LENGTH:
            raise ArchiveError(_said_of(path, "it has no header, or not all of it"))
        return beginning + file.read()


def _metadata(content: bytes) -> dict[str, str]:
    """What the header says besides the arrays."""
    length = int.from_bytes(content[:_LENGTH], "little")
    metadata = json.loads(content[_LENGTH : _LENGTH + length])["__metadata__"]
    if not all(isinstance(metadata[name], str) for name in (_FACTS, _CHECKSUM)):
        raise ValueError("its header is of another kind")
    return dict(metadata)


def _parsed(written: str) -> Any:
    return json.loads(written, parse_constant=_finite, parse_float=_finite)


def _finite(written: str) -> float:
    if not math.isfinite(number := float(written)):
        raise ValueError(f"it holds {written}, which is no number")
    return number


def _checksum(arrays: Mapping[str, np.ndarray], facts: str) -> str:
    """Of names, types, shapes and bytes of the arrays, and of the facts as they are written."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        # JSON marks where a name ends, so that no two lists of arrays are written alike.
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(np.ascontiguousarray(array).data)
    digest.update(facts.encode())
    return digest.hexdigest()


def _bring_to_disk(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system lets a program ask for it."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _said_of(path: str | os.PathLike[str], reason: str) -> str:
    return (
        f"{os.fspath(path)!r} is no file that this package has written, or it is damaged: "
        f"{reason}; write it anew, or take another copy"
    )
