"""Processes of a group of torch.distributed, which tests start, ask, and end themselves.

They find each other through a file, and gloo picks the ports. A `Group` runs one function after
the other on all of its ranks, so that a module of tests starts processes once.
"""

import os
import tempfile
import traceback
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch.distributed as dist

from tests.processes import CONTEXT


class Group:
    """Some ranks. A function runs on each; its results come in the order of the ranks."""

    def __init__(self, size, seconds=60):
        self.folder = tempfile.TemporaryDirectory()
        store = Path(self.folder.name) / "store"
        pipes = [CONTEXT.Pipe() for _ in range(size)]
        self.pipes = [ours for ours, _ in pipes]
        self.processes = [
            CONTEXT.Process(
                target=_serve, args=(theirs, str(store), rank, size, seconds), daemon=True
            )
            for rank, (_, theirs) in enumerate(pipes)
        ]
        for process in self.processes:
            process.start()
        for _, theirs in pipes:  # or the end of a process would not be seen
            theirs.close()

    def start(self, function, *args):
        """Begin; `ended` waits for it."""
        for pipe in self.pipes:
            pipe.send((function, args))

    def ended(self, ranks=None):
        """What the function returned, or the exception that it raised, on some ranks."""
        chosen = range(len(self.pipes)) if ranks is None else ranks
        return [self.pipes[rank].recv() for rank in chosen]

    def run(self, function, *args):
        """Run function(*args) on all ranks; returns what it returns there."""
        self.start(function, *args)
        found = self.ended()
        for rank, (_, failure) in enumerate(found):
            assert failure is None, f"rank {rank}: {failure}"
        return [result for result, _ in found]

    def close(self):
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join(1)
            if process.is_alive():
                process.kill()
                process.join()
        self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def _serve(pipe, store, rank, size, seconds):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    np.random.seed()  # noqa: NPY002 - a fork draws what its server would, and so would all ranks
    dist.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=seconds),
    )
    while True:
        try:
            function, args = pipe.recv()
        except EOFError:
            break
        try:
            pipe.send((function(*args), None))
        except Exception:  # noqa: BLE001 - told to the test, whatever it is
            pipe.send((None, traceback.format_exc()))
    os._exit(0)  # a group whose other members are gone would be waited for
