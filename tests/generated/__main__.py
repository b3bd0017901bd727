"""Runs calls by number and tells what became of them: python -m tests.generated --calls 1000."""

import argparse
from collections import Counter

from tests.generated.calls import ending


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--only", type=int, help="one call, in full")
    given = parser.parse_args()
    if given.only is not None:
        print(ending(given.only, strict=True))
        return
    endings = []
    for number in range(given.first, given.first + given.calls):
        endings.append(one := ending(number))
        if one.fault:
            told = f"FAULT {number} ({one.seconds:.1f} s): {one.fault}\n    {one.call[:1500]}"
            print(told, flush=True)
    slowest = max(endings, key=lambda one: one.seconds)
    print(f"{len(endings)} calls from {given.first}, {sum(bool(e.fault) for e in endings)} faults")
    for kind, count in Counter(one.kind for one in endings).most_common():
        print(f"{count:6d} {kind}")
    print(f"slowest: call {slowest.number}, {slowest.seconds:.1f} s")
    print(f"all: {sum(one.seconds for one in endings):.0f} s")


if __name__ == "__main__":
    main()
