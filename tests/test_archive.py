"""Files of arrays and JSON: whole or not at all, and read without running code."""

import errno
import json
import os
import resource
import struct
from contextlib import contextmanager

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from sklearn_gflow import archive
from sklearn_gflow.exceptions import ArchiveError

ARRAYS = {
    "θ": np.linspace(0, 1, 7),
    "single": np.ones((2, 3), np.float32),
    "half": np.ones(2, np.float16),
    "column-major": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "every second": np.arange(10)[::2],
    "other order of bytes": np.arange(3, dtype=">i4"),
    "no axis": np.array(3.5),
    "empty": np.empty((0, 4)),
    "truth": np.array([True, False]),
    "bytes": np.arange(4, dtype=np.uint8),
    "not finite": np.array([np.nan, np.inf, -0.0]),
}
FACTS = {"version": "1", "nested": [1, 2.5, None, True, {"é": "\ud800"}], "wide": 2**70}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.safetensors"


def test_what_was_written_is_read(path):
    archive.write(path, ARRAYS, FACTS)
    arrays, facts = archive.read(path)
    assert facts == FACTS
    assert arrays.keys() == ARRAYS.keys()
    for name, array in arrays.items():
        assert (array.shape, array.dtype.newbyteorder("=")) == (
            ARRAYS[name].shape,
            ARRAYS[name].dtype.newbyteorder("="),
        )
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert array.flags.writeable
    assert np.signbit(arrays["not finite"][2])


def test_other_programs_can_read_it(path):
    archive.write(path, {"θ": np.arange(3.0)}, {"what": "numbers"})
    with safe_open(path, framework="np") as file:
        assert json.loads(file.metadata()["facts"]) == {"what": "numbers"}
        np.testing.assert_array_equal(file.get_tensor("θ"), [0, 1, 2])


def test_file_without_arrays(path):
    archive.write(path, {}, {})
    assert archive.read(path) == ({}, {})


def test_name_of_the_greatest_length(tmp_path):
    path = tmp_path / ("n" * 255)
    archive.write(str(path), {}, {"a": 1})
    assert archive.read(path)[1] == {"a": 1}


def test_link_is_followed(path, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(path)
    archive.write(link, {}, {"a": 1})
    assert link.is_symlink()
    assert archive.read(path)[1] == {"a": 1}


@pytest.mark.parametrize("kind", [object, complex, "U3", "M8[s]"])
def test_arrays_of_other_types_are_refused(path, kind):
    with pytest.raises(ValueError, match="array 'a' has type"):
        archive.write(path, {"a": np.zeros(2, kind)}, {})
    assert not path.exists()


@pytest.mark.parametrize(("fact", "kind"), [({1}, TypeError), (np.nan, ValueError)])
def test_facts_that_json_has_not_are_refused(path, fact, kind):
    with pytest.raises(kind, match="JSON"):
        archive.write(path, {}, {"fact": fact})
    assert not path.exists()


# -- a write that fails -----------------------------------------------------------------------


@contextmanager
def no_room():
    """A file can have 100 bytes, as on a full disk: those of the tests' own report too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_leaves_the_former_file(path, tmp_path):
    archive.write(path, {}, {"written": "before"})
    with no_room(), pytest.raises(OSError, match="File too large"):
        archive.write(path, {"a": np.zeros(1000)}, {})
    assert archive.read(path)[1] == {"written": "before"}
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("kind", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_failure_at_any_step_leaves_the_former_file(path, tmp_path, monkeypatch, step, kind):
    archive.write(path, {}, {"written": "before"})

    def fail(*_):
        raise kind

    with monkeypatch.context() as patched:
        patched.setattr(os, step, fail)
        with pytest.raises(type(kind)):
            archive.write(path, {}, {"written": "later"})
    assert archive.read(path)[1] == {"written": "before"}
    assert os.listdir(tmp_path) == [path.name]


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        archive.write(tmp_path / "none" / "file", {}, {})


# -- files that are none ----------------------------------------------------------------------


def with_header(header, content=b""):
    written = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(written)) + written + content


def with_metadata(**metadata):
    return save({"a": np.zeros(2)}, metadata)


FOREIGN = {
    "empty": b"",
    "one byte": b"\x08",
    "text": b"Dear reader, these are words.",
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "header longer than the file": struct.pack("<Q", 1000) + b"{}",
    "header of 2⁶⁴ bytes": struct.pack("<Q", 2**64 - 1) + b"{}",
    "header that is no JSON": with_header(b"{nothing"),
    "header that is no UTF-8": with_header(b"{\xff}"),
    "nothing in the header": with_header({}),
    "metadata of another kind": with_header({"__metadata__": 3}),
    "list as metadata": with_header({"__metadata__": ["facts", "sha256"]}),
    "deep header": with_header(b'{"a":' * 100_000),
    "array beyond the end": with_header(
        {"__metadata__": {}, "a": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]}}
    ),
    "no metadata": save({"a": np.zeros(2)}),
    "no checksum": with_metadata(facts="{}"),
    "wrong checksum": with_metadata(facts="{}", sha256="0" * 64),
    "facts that are no JSON": with_metadata(facts="{", sha256="0" * 64),
    "deep facts": with_metadata(facts="[" * 100_000, sha256="0" * 64),
    "NaN in the facts": with_metadata(facts="[NaN]", sha256="0" * 64),
    "1e999 in the facts": with_metadata(facts="[1e999]", sha256="0" * 64),
    "an integer of 10⁴ digits": with_metadata(facts="1" * 10_000, sha256="0" * 64),
    "a type that numpy has not": with_header(
        {"__metadata__": {"facts": "{}", "sha256": ""}, "a": {"dtype": "BF16", "shape": [1],
         "data_offsets": [0, 2]}}, b"\0\0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_another_kind_are_told(path, name):
    path.write_bytes(FOREIGN[name])
    with pytest.raises(ArchiveError, match=r"file\.safetensors' is no file that this package has"):
        archive.read(path)


def test_torn_files_are_told(path):
    archive.write(path, {"a": np.arange(3.0)}, {"b": 1})
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ArchiveError, match="damaged"):
            archive.read(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(ArchiveError, match="damaged"):
        archive.read(path)


@pytest.mark.slow
def test_flipped_bits_are_told(path):
    """Save those that change nothing of what the file tells, as a blank that becomes a tab."""
    archive.write(path, {"a": np.arange(3.0)}, {"b": 1})
    content = bytearray(path.read_bytes())
    found = 0
    for place in range(8 * len(content)):
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        try:
            arrays, facts = archive.read(path)
        except ArchiveError:
            found += 1
        else:
            assert (arrays["a"].tolist(), arrays["a"].dtype, facts) == ([0, 1, 2], float, {"b": 1})
        content[place // 8] ^= 1 << place % 8
    assert found > 8 * len(content) - 100


def test_absent_file_is_no_damaged_one(path):
    with pytest.raises(FileNotFoundError):
        archive.read(path)
