"""Kills fits at random moments, and holds what goes on to what was not killed.

    OMP_NUM_THREADS=1 python docs/benchmarks/kills.py --kills 100

    OMP_NUM_THREADS=1 python docs/benchmarks/kills.py --kills 0 --rank-kills 10

A process is forked for each life of a fit and killed by SIGKILL after a random time. The next life
starts the same fit again. Between two of them the file must be whole, and must not have lost what
it had; where a life comes to the end, its predictions must be those of a fit without a checkpoint,
to the bit. Of a fit that two ranks share one is killed, the other has to end by itself, and both
are started again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor, AdaptedFlowRegressorCV
from sklearn_gflow.archive import read

# As long a rank waits for the others.
_WAITED = timedelta(seconds=30)
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(160, 5))
Y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.1 * RANDOM.normal(size=160)
LABELS = (Y - np.median(Y) > 0).astype(int)


def whole_batch(checkpoint: Path | None) -> np.ndarray:
    """Steps at given times, in the full batch."""
    model = AdaptedFlowRegressor((40, 40), schedule=40, checkpoint=checkpoint, random_state=0)
    return model.fit(X, Y).predict(X)


def blocks(checkpoint: Path | None) -> np.ndarray:
    """Epochs over blocks, stopped by rows held out."""
    model = AdaptedFlowClassifier(
        (30,), batch_size=8, t_end=0.999, early_stopping=True, checkpoint=checkpoint, random_state=0
    )
    return model.fit(X, LABELS).decision_function(X)


def chunks(checkpoint: Path | None) -> np.ndarray:
    """Calls of ``partial_fit``."""
    model = AdaptedFlowRegressor((30,), batch_size=8, checkpoint=checkpoint, random_state=0)
    for start in [*range(0, 160, 32), *range(0, 160, 32)]:
        model.partial_fit(X[start : start + 32], Y[start : start + 32])
    return model.predict(X)


def search(checkpoint: Path | None) -> np.ndarray:
    """A search by leave-one-out and over folds."""
    model = AdaptedFlowRegressorCV(
        (16,), encodings=[None, "piecewise"], checkpoint=checkpoint, random_state=0
    )
    return model.fit(X[:80], Y[:80]).predict(X)


FITS: dict[str, Callable[[Path | None], np.ndarray]] = {
    "full batch": whole_batch,
    "blocks": blocks,
    "partial_fit": chunks,
    "search": search,
}


class Life:
    """A process of its own that runs something, and can be killed."""

    def __init__(self, run: Callable[[], Any], result: Path) -> None:
        result.unlink(missing_ok=True)
        self.result = result
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                result.write_text(run())
                code = 0
            finally:
                os._exit(code)

    def end(self, after: float, *, failing: bool = False) -> bool:
        """Kill it after some seconds; whether it had come to its end before.

        One that is ``failing`` may have ended in an error, and must not have to be killed.
        """
        until = time.monotonic() + after
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                assert code == 0 or failing, "a life ended in an error"
                return code == 0
            time.sleep(0.001)
        assert not failing, "a rank waited for one that is dead"
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status) == 0


def digest(predictions: np.ndarray) -> str:
    """Of the bits of predictions."""
    return hashlib.sha256(predictions.tobytes()).hexdigest()


def kept(path: Path) -> int:
    """How much a checkpoint has: bytes of its arrays and calls; fails where it is torn."""
    if not path.exists():
        return 0
    arrays, facts = read(path)
    return sum(array.nbytes for array in arrays.values()) + 10**9 * len(facts["calls"])


def killed(name: str, n_kills: int, folder: Path, random: np.random.Generator) -> dict[str, Any]:
    """Kill a fit so many times; starts it anew whenever it came to its end."""
    fit, path = FITS[name], folder / "fit.checkpoint"
    began = time.monotonic()
    expected = digest(fit(None))
    span, kills, finished, most = time.monotonic() - began, 0, 0, 0
    lives = since = 0
    while kills < n_kills or since:
        last = kills >= n_kills
        life = Life(lambda: digest(fit(path)), folder / "result")
        if life.end(1e6 if last else random.uniform(0, 0.6 * span)):
            assert life.result.read_text() == expected, f"{name}: another result"
            finished, most, since = finished + 1, max(most, since), 0
            path.unlink()
        else:
            kills, since = kills + 1, since + 1
            kept(path)
        lives += 1
    return {"fit": name, "kills": kills, "finished": finished, "most kills of one fit": most}


# -- ranks ---------------------------------------------------------------------------------------


def shared(checkpoint: Path | None, folder: Path, rank: int) -> np.ndarray:
    """A fit in blocks that two ranks share."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=_WAITED)
    own = slice(0, 70) if rank == 0 else slice(70, None)
    model = AdaptedFlowRegressor(
        (30,), batch_size=8, t_end=0.999, early_stopping=True, checkpoint=checkpoint,
        random_state=0, distributed="auto",
    )  # fmt: skip
    return model.fit(X[own], Y[own]).predict(X)


def rank_killed(n_kills: int, random: np.random.Generator) -> dict[str, Any]:
    """Kill one of two ranks so many times; after each the other ends, and both begin again."""

    def lives(checkpoint: Path | None) -> tuple[tempfile.TemporaryDirectory[str], list[Life]]:
        place = tempfile.TemporaryDirectory()
        folder = Path(place.name)
        return place, [
            Life(partial(digest_of, checkpoint, folder, rank), folder / f"result {rank}")
            for rank in range(2)
        ]

    def digest_of(checkpoint: Path | None, folder: Path, rank: int) -> str:
        return digest(shared(checkpoint, folder, rank))

    def results(ranks: list[Life]) -> set[str]:
        assert all(life.end(1e6) for life in ranks)
        return {life.result.read_text() for life in ranks}

    began = time.monotonic()
    place, ranks = lives(None)
    (expected,) = results(ranks)
    span, kills, finished, longest = time.monotonic() - began, 0, 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fit.checkpoint"
        while kills < n_kills:
            place, ranks = lives(path)
            victim = int(random.integers(2))
            if ranks[victim].end(random.uniform(0.2, 0.9) * span):
                assert results([ranks[1 - victim]]) == {expected}, "another result"
                finished += 1
                path.unlink()
            else:
                kills += 1
                died = time.monotonic()
                other = ranks[1 - victim]
                if other.end(_WAITED.total_seconds() + 10, failing=True):
                    # The last message had been sent: the other needed nothing more of the victim.
                    assert other.result.read_text() == expected, "another result"
                longest = max(longest, time.monotonic() - died)
                kept(path)
            place.cleanup()
        place, ranks = lives(path)
        assert results(ranks) == {expected}, "another result"
        place.cleanup()
    return {
        "fit": "two ranks", "kills": kills, "finished": finished + 1,
        "seconds until the other had ended": round(longest, 2),
    }  # fmt: skip


def main() -> None:
    """Kill all kinds of fits in turn, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rank-kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random = np.random.default_rng(given.seed)
    shares = np.diff(np.linspace(0, given.kills, len(FITS) + 1).astype(int))
    total = 0
    for name, n_kills in zip(FITS, shares.tolist(), strict=True):
        with tempfile.TemporaryDirectory() as folder:
            told = killed(name, n_kills, Path(folder), random)
        total += told["kills"]
        print(told)
    if given.rank_kills:
        print(told := rank_killed(given.rank_kills, random))
        total += told["kills"]
    print(f"{total} kills, all gone on from, every result the same to the bit")


if __name__ == "__main__":
    main()
