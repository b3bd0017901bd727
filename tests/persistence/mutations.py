"""Damaged and forged files of `save`: none runs code, ends the interpreter, or fails otherwise.

    python -m tests.persistence.mutations 10000

mutates files in two ways. Bytes of a file: bits that flip, parts that are cut out, doubled,
exchanged or overwritten. And what a file says, in a file that is whole: its checksum is made to
fit, so that `load` has to judge by itself. Half of them are loaded in this process, under
faulthandler; all of them in processes of their own, a thousand a process.
"""

import argparse
import collections
import copy
import faulthandler
import json
import subprocess
import sys
import tempfile
import warnings
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

from sklearn_gflow import ArchiveError, archive, load, save
from tests.persistence.models import fitted

KINDS = ("search of labels", "frame", "periodic", "several outputs", "scaler", "table")
# What code that a file brought along could do; audited while it is read.
_EVENTS = {
    "compile", "exec", "import", "marshal.loads", "pickle.find_class", "os.exec", "os.posix_spawn",
    "os.spawn", "os.system", "os.remove", "os.fork", "subprocess.Popen", "socket.connect",
    "ctypes.dlopen",
}  # fmt: skip
_BATCH = 1000
_watched: list[list[str]] = []


def _note(event, _):
    if _watched and event in _EVENTS:
        _watched[-1].append(event)


@cache
def _listen():
    """Once, since a hook stays for the life of a process."""
    sys.addaudithook(_note)


@contextmanager
def watched():
    """What happens inside, of what would be code of a file."""
    _listen()
    events = []
    _watched.append(events)
    try:
        yield events
    finally:
        _watched.pop()


def originals(folder):
    """Bytes of a saved model of each kind."""
    for kind in KINDS:
        save(fitted(kind)[0], folder / kind)
        load(folder / kind)  # whatever is imported late is imported here
    return [(folder / kind).read_bytes() for kind in KINDS]


# -- bytes --------------------------------------------------------------------------------------


def _flipped(content, rng, _):
    for place in rng.integers(8 * len(content), size=rng.integers(1, 4)):
        content[place // 8] ^= 1 << int(place % 8)
    return content


def _cut(content, rng, _):
    return content[: rng.integers(len(content))]


def _left_out(content, rng, _):
    first, last = sorted(rng.integers(len(content), size=2))
    return content[:first] + content[last:]


def _doubled(content, rng, _):
    first, last = sorted(rng.integers(len(content), size=2))
    return content[:last] + content[first:]


def _overwritten(content, rng, _):
    first = int(rng.integers(len(content)))
    noise = rng.integers(256, size=rng.integers(1, 64), dtype=np.uint8).tobytes()
    return content[:first] + noise + content[first + len(noise) :]


def _in_the_header(content, rng, _):
    length = int.from_bytes(content[:8], "little")
    content[8 + rng.integers(length)] = int(rng.integers(32, 127))
    return content


def _spliced(content, rng, others):
    other = others[rng.integers(len(others))]
    return content[: rng.integers(len(content))] + other[rng.integers(len(other)) :]


BYTES = (_flipped, _cut, _left_out, _doubled, _overwritten, _in_the_header, _spliced)


# -- what a file says ---------------------------------------------------------------------------


def _places(form, found):
    """All (container, key) of a form."""
    entries = form.items() if isinstance(form, dict) else enumerate(form)
    for key, part in entries:
        found.append((form, key))
        if isinstance(part, dict | list):
            _places(part, found)
    return found


def _odd(rng, arrays, forms):
    """A value that should not stand there, or should stand elsewhere."""
    odd = [
        None, True, -1, 0, 2**63, 2**70, 1e308, "", "os.system", "__class__", [], {}, [[]],
        {"object": 0}, {"object": -1}, {"array": str(rng.choice([*arrays, "x"]))},
        {"record": ["Architecture", {}]}, {"objects": [[2**40], []]}, {"text": ["<U9", [1], "x"]},
        {"float": "nan"}, {"dtype": "<f8"}, {"scalar": ["float64", "x"]}, {"code": "exit()"},
        forms[rng.integers(len(forms))],
    ]  # fmt: skip
    return copy.deepcopy(odd[rng.integers(len(odd))])


def _resaid(path, rng):
    """The file with other facts or arrays, and the checksum that belongs to them."""
    arrays, facts = archive.read(path)
    for _ in range(rng.integers(1, 4)):
        places = _places(facts["objects"], [])
        holder, key = places[rng.integers(len(places))]
        way = rng.integers(4)
        if way == 0 and len(holder) > 1:
            del holder[key]
        elif way == 1 and isinstance(holder, dict):
            holder[str(rng.choice(["__class__", "__setstate__", "predict", "_coding"]))] = holder[
                key
            ]
        elif way == 2 and arrays:
            name = str(rng.choice(list(arrays)))
            arrays[name] = [arrays[name].ravel()[:-1], arrays[name].astype(np.float32),
                            arrays[name][None]][rng.integers(3)]  # fmt: skip
        else:
            holder[key] = _odd(rng, arrays, [json.loads(json.dumps(h[k])) for h, k in places[:50]])
    archive.write(path, arrays, facts)


# -- trying -------------------------------------------------------------------------------------


def tried(seed, count, folder):
    """How loading of mutated files ends, counted; raises what should not happen."""
    contents, counts = originals(folder), collections.Counter()
    path = folder / "mutant"
    for number in range(seed, seed + count):
        rng = np.random.default_rng(number)
        content = contents[rng.integers(len(contents))]
        if rng.uniform() < 0.5:
            path.write_bytes(BYTES[rng.integers(len(BYTES))](bytearray(content), rng, contents))
        else:
            path.write_bytes(content)
            _resaid(path, rng)
        counts[outcome(path)] += 1
    return counts


def outcome(path):
    """How loading of a file ends."""
    with warnings.catch_warnings(), watched() as events:
        warnings.simplefilter("ignore")
        try:
            load(path)
        except ArchiveError:
            ended = "ArchiveError"
        else:
            ended = "a model"
    assert not events, events
    return ended


def main():
    """Try so many files, in this process and in others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--here", action="store_true", help="in this process only")
    asked = parser.parse_args()
    faulthandler.enable()
    with tempfile.TemporaryDirectory() as folder:
        here = asked.count if asked.here else asked.count // 2
        print(f"in one process: {dict(tried(asked.seed, here, Path(folder)))}", flush=True)
    if asked.here:
        return
    for seed in range(asked.seed, asked.seed + asked.count, _BATCH):
        count = min(_BATCH, asked.seed + asked.count - seed)
        command = [sys.executable, "-X", "faulthandler", "-m", "tests.persistence.mutations"]
        subprocess.run([*command, str(count), "--seed", str(seed), "--here"], check=True)


if __name__ == "__main__":
    main()
