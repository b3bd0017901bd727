"""Processes that tests start: forks of a server that has imported what they need, once."""

import contextlib
import io
import multiprocessing
import sys
import traceback

CONTEXT = multiprocessing.get_context("forkserver")
# The modules that are loaded late too: a fork that imports them itself takes two seconds for it.
CONTEXT.set_forkserver_preload(["pytest", "sklearn_gflow.estimators", "tests.ranks"])


def run(script, *arguments, limit=120):
    """The lines that a script prints in a process of its own, which may hang or be killed."""
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_printed, args=(theirs, script, arguments), daemon=True)
    process.start()
    theirs.close()  # or the end of the process would not be seen
    try:
        assert ours.poll(limit), f"no answer in {limit} seconds"
        printed, failure = ours.recv()
    except EOFError:
        process.join(limit)
        raise AssertionError(f"the process ended with {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    assert failure is None, failure
    return printed.split("\n")[:-1]


def _printed(pipe, script, arguments):
    sys.argv = ["-c", *map(str, arguments)]
    failure = None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            exec(script, {"__name__": "__main__"})
        except BaseException:  # noqa: BLE001 - told to the test, whatever it is
            failure = traceback.format_exc()
    pipe.send((printed.getvalue(), failure))
