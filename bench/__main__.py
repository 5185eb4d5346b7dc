"""`python -m bench`: every claim, written to docs/benchmarks.md; `python -m bench long --quick`: one, roughly."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # CPU time is comparable when nobody waits for other threads

from bench.report import ROOT, Claim, document, section  # noqa: E402

CLAIMS = ("package", "attention", "long", "views", "record", "sweep", "features", "course")


def measures(size: str) -> dict[str, Callable[[], tuple[Claim, str]]]:
    """What each claim measures in a run of that size."""
    from bench import attention, course, features, long, package, record, sweep, views

    if size == "full":
        lengths = (32, 128, 256, 512, 1024)
        return {
            "package": lambda: package.run(rounds=7),
            "attention": lambda: attention.run(lengths, rounds=3, limit=40, peer_lengths=lengths),
            "long": lambda: long.run(((12, 12, 4096), (12, 12, 16384), (1, 1, 131072)), rounds=2),
            "views": lambda: views.run(rounds=3),
            "record": lambda: record.run(((64, 15), (256, 9), (512, 7))),
            "sweep": lambda: sweep.run(((64, 1), (64, 8), (256, 1), (256, 8)), rounds=7, sweep_rounds=3),
            "features": lambda: features.run(
                {features.SHIPPED: 1_048_576, features.SHAPED: 65_536}, 24_576, (100_000, 1_000_000), (1, 2)
            ),
            "course": lambda: course.run(course.every(), course.every()),
        }
    if size == "quick":
        return {
            "package": lambda: package.run(rounds=3),
            "attention": lambda: attention.run((32, 128, 512, 1024), rounds=1, limit=25, peer_lengths=(32, 128)),
            "long": lambda: long.run(((12, 12, 16384), (1, 1, 131072)), rounds=1),
            "views": lambda: views.run(rounds=1),
            "record": lambda: record.run(((64, 7), (256, 5), (512, 3))),
            "sweep": lambda: sweep.run(((64, 1),), rounds=3, sweep_rounds=3),
            "features": lambda: features.run(
                {features.SHIPPED: 131_072, features.SHAPED: 8_192}, 24_576, (100_000, 1_000_000), paired=8_192
            ),
            "course": lambda: course.run(course.every(), course.every()[:1]),
        }
    return {
        "package": lambda: package.run(rounds=1),
        "attention": lambda: attention.run((12,), rounds=1, limit=20, peer_lengths=()),
        "long": lambda: long.run(((1, 2, 512),), rounds=1),
        "views": lambda: views.run(rounds=1, length=64, neurons=200, names=("circuit", "prompt")),
        "record": lambda: record.run(((8, 1),), layers=1),
        "sweep": lambda: sweep.run(((8, 1),), rounds=1, sweep_rounds=1, shape=sweep.Shape(2, 2, 64, 500), length=6),
        "features": lambda: features.run(
            {features.SHIPPED: 1024, features.SHAPED: 256}, 64, (100,), layers=2, paired=1024, clicked=3
        ),
        "course": lambda: course.run(("example",), ("example",)),
    }


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure our claims against the peers.")
    parser.add_argument("claims", nargs="*", metavar="claim", help=f"of {', '.join(CLAIMS)}; all unless given")
    parser.add_argument("--quick", action="store_true", help="some minutes: fewer lengths, one round")
    parser.add_argument("--tiny", action="store_true", help="seconds: whether the bench itself works")
    parser.add_argument(
        "--out", type=Path, help="the file to write, in which other claims stay; docs/benchmarks.md for a full run"
    )
    given = parser.parse_args()
    if unknown := [name for name in given.claims if name not in CLAIMS]:
        parser.error(f"there is no claim {unknown[0]!r}; there are: {', '.join(CLAIMS)}")
    size = "tiny" if given.tiny else "quick" if given.quick else "full"
    sections = []
    for name, measure in measures(size).items():
        if given.claims and name not in given.claims:
            continue
        print(f"{name}:", file=sys.stderr, flush=True)
        started, load = datetime.now(timezone.utc), os.getloadavg()[0]
        claim, browser = measure()
        arguments = name + (f" --{size}" if size != "full" else "")
        sections.append(section(claim, started, load, arguments, browser or "no browser"))
        print(sections[-1], flush=True)
    out = given.out
    if out is None and size == "full":
        out = ROOT / "docs/benchmarks.md"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(document(sections, out.read_text("utf-8") if out.is_file() else ""), encoding="utf-8")
        print(f"written to {out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
