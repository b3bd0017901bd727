"""Race to zero training loss: this package and its peers from one start, on one problem.

All train the same tanh network from the same weights θ₀ on the same standardised data, until
the training MSE is 1e-10·var(y). The model of this package is f_θ − f_θ₀; the peers get the
targets y + f_θ₀(X) instead, which is the same problem. Every competitor reports each value of
its loss to a stopwatch at the moment it has computed it; the run ends when the target or the
budget is met. What is timed starts with arrays (X, y, θ₀) and includes all set-up.

A peer runs once with each of several settings; the best of them enters the timed repetitions,
in which the competitors take turns. Run ``python docs/benchmarks/race.py --help``.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import time
from pathlib import Path

import threadpoolctl
import torch
from _machine import header
from _race_peers import OWN, PEERS, Runner
from _race_problems import PROBLEMS, Finish, Problem, Stopwatch, problem
from _race_report import PREAMBLE, Entry, Result, Trials, in_words, median, section, summary

FINALISTS, CLOSE = 3, 1.3  # that many settings of a peer, this close to its best, run thrice
OUT = Path(__file__).with_suffix(".md")


def timed(runner: Runner, race: Problem, budget: float) -> Stopwatch:
    """One run, after the threads of the one before have come to rest."""
    gc.collect()
    time.sleep(0.1)
    watch = Stopwatch(budget)
    watch.start()
    try:
        runner(race, watch)
    except Finish:
        pass
    finally:
        watch.stop()
    return watch


def trials(race: Problem, settings: dict[str, Runner], budget: float) -> Trials:
    """Run each setting once, for at most twice as long as the best so far; close ones thrice.

    The value of a setting that the peer refuses is its message.
    """
    found: Trials = {}
    limit = budget
    for name, runner in settings.items():
        try:
            timed(runner, race, min(limit, 1.0))  # first calls load and warm up
            run = timed(runner, race, limit)
        except ValueError as error:
            found[name] = f"refused ({error})"
            print(f"    {name}: {found[name]}", flush=True)
            continue
        found[name] = [run]
        if run.reached:
            limit = min(limit, max(2 * run.seconds, 0.5))
        print(f"    {name}: {in_words([run])}", flush=True)
    finalists = _finalists(found)
    for name in 2 * finalists if len(finalists) > 1 else ():
        found[name] += [timed(settings[name], race, limit)]
    return found


def _finalists(found: Trials) -> list[str]:
    """The best few settings whose first run came close to the fastest."""
    names = ranked(found)[:FINALISTS]
    return [name for name in names if median(found[name]) <= CLOSE * median(found[names[0]])]


def ranked(found: Trials) -> list[str]:
    """Settings in order: by time to the target, then by the loss that they came to."""
    runs = {name: run for name, run in found.items() if not isinstance(run, str)}
    return sorted(runs, key=lambda name: (median(runs[name]), min(r.best for r in runs[name])))


def run_problem(name: str, repeats: int, budget: float, quick: bool) -> Result:
    """Find each peer's best setting, then let all run in turns."""
    race = problem(name)
    print(race.name, flush=True)
    entries = [Entry(title, "", runner) for title, runner in OWN.items()]
    tried = {}
    for title, make in PEERS.items():
        print(f"  {title}", flush=True)
        settings = dict(itertools.islice(make().items(), 1 if quick else None))
        tried[title] = trials(race, settings, budget)
        if order := ranked(tried[title]):  # some run out of memory with all of their settings
            entries.append(Entry(title, order[0], settings[order[0]]))
    for entry in entries:
        timed(entry.runner, race, min(budget, 2.0))
    for repeat in range(repeats):
        for entry in entries:
            if repeat and not entry.reached:  # a miss costs the whole budget: once is enough
                continue
            entry.runs.append(timed(entry.runner, race, budget))
            print(f"  {repeat + 1}/{repeats} {entry.name}: {in_words(entry.runs[-1:])}", flush=True)
    return Result(race, entries, tried)


def main() -> None:
    """Run the race and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=PROBLEMS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=float, default=120.0, help="seconds a run")
    parser.add_argument("--quick", action="store_true", help="one setting a peer, no trials")
    parser.add_argument("--threads", type=int, help="of torch and BLAS; default: as they are")
    parser.add_argument("--out", type=Path, default=OUT, help="where the table goes")
    arguments = parser.parse_args()
    if arguments.threads:
        os.environ["NPROC"] = str(arguments.threads)  # of JAX, which is imported later
        torch.set_num_threads(arguments.threads)
        threadpoolctl.threadpool_limits(arguments.threads)
    results = []
    for name in arguments.problems:
        results.append(run_problem(name, arguments.repeats, arguments.budget, arguments.quick))
        parts = [
            PREAMBLE,
            header("jax", "optimistix", "ssbroyden-optimistix"),
            "",
            summary(results),
            "",
            *map(section, results),
        ]
        arguments.out.write_text("\n".join(parts))
    print(summary(results))


if __name__ == "__main__":
    main()
