"""A scheduler and workers of Dask, started from the command line on loopback, and ended."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

LOOPBACK = ("--host", "127.0.0.1", "--no-dashboard")
ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def cluster(folder, n_workers=2, n_threads=1):
    """The file that names the scheduler, once all workers are there; ports are the system's."""
    from distributed import Client

    file = folder / "scheduler.json"
    named = ("--scheduler-file", str(file))
    workers = ("--nworkers", str(n_workers), "--nthreads", str(n_threads))
    with contextlib.ExitStack() as servers:
        servers.enter_context(started("scheduler", *named, *LOOPBACK, "--port", "0"))
        wait_for(file.exists)
        places = ("--local-directory", str(folder), "--death-timeout", "30")
        servers.enter_context(started("worker", *named, *LOOPBACK, *workers, *places))
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(n_workers, timeout=60)
        yield str(file)


@contextlib.contextmanager
def started(*command):
    """A server in a session of its own, all of whose processes are ended with it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    with subprocess.Popen(
        [sys.executable, "-m", "dask", *command],
        start_new_session=True, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as server:  # fmt: skip
        try:
            yield server
        finally:
            server.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(20)
            with contextlib.suppress(ProcessLookupError):  # none of its children is left
                os.killpg(server.pid, signal.SIGKILL)


def wait_for(met, seconds=60):
    """Wait until something is so."""
    last = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < last, "a server did not start"
        time.sleep(0.05)
