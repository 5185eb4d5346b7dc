"""Make the model systems again, write their cards, and hold the cards to the weights.

    python -m interpwidgets.models.train induction-2l --seed 1 --out runs
    python -m interpwidgets.models.train card induction-2l --out runs --ship 0
    python -m interpwidgets.models.train check induction-2l

The first trains one seed; it stops and goes on wherever it was cut off. The second measures every finished run in the
folder, ships one of them and writes its card. The third measures what is shipped on fresh prompts, all systems if none
is named, and says which number of which card does not hold.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path
from typing import Any

from interpwidgets.models.train.system import SYSTEMS, System, system


def main(arguments: list[str] | None = None) -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(
        prog="python -m interpwidgets.models.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="NAME | card | check")
    out: dict[str, Any] = {"type": Path, "default": Path("runs"), "help": "the folder of the runs"}
    for name in SYSTEMS:
        run = commands.add_parser(name, help="make it again; the same seed gives the same weights")
        run.add_argument("--seed", type=int, default=0)
        run.add_argument("--steps", type=int, help="another number of steps makes another run")
        run.add_argument("--out", **out)
    card = commands.add_parser("card", help="measure the finished runs, ship one, write its card")
    card.add_argument("system", choices=list(SYSTEMS))
    card.add_argument("--out", **out)
    card.add_argument("--ship", type=int, default=0, help="the seed whose weights are shipped")
    card.add_argument("--into", type=Path, help="the folder of the system; the package's own if not given")
    checked = commands.add_parser("check", help="hold the cards to the weights, on fresh prompts")
    checked.add_argument("systems", nargs="*", metavar="NAME", help=f"of {', '.join(SYSTEMS)}; all if none is named")
    given = parser.parse_args(arguments)
    if given.command == "card":
        from interpwidgets.models.train.card import write_card
        from interpwidgets.models.training.loop import one_thread

        chosen = system(given.system)
        with one_thread():
            write_card(chosen, given.out, given.ship, given.into or chosen.folder)
    elif given.command == "check":
        sys.exit(_check(given.systems or list(SYSTEMS)))
    else:
        sys.stdout.write(f"{_make(system(given.command), given.seed, given.steps, given.out)}\n")


def _make(chosen: System, seed: int, steps: int | None, out: Path) -> Path:
    if chosen.task is None or chosen.recipe is None:
        assert chosen.build is not None
        folder = out / chosen.name
        folder.mkdir(parents=True, exist_ok=True)
        chosen.build(folder)
        return folder
    from interpwidgets.models.training.loop import train

    return train(chosen.task(chosen.recipe(seed=seed, **({} if steps is None else {"steps": steps}))), out)


def _check(names: list[str]) -> int:
    """Print every number with its interval; count those that do not hold."""
    from interpwidgets.models.train.card import check
    from interpwidgets.models.training.loop import one_thread

    seed, failed = secrets.randbits(30), 0
    sys.stdout.write(f"prompts drawn from seed {seed}\n")
    with one_thread():
        for row in (row for name in names for row in check(system(name), seed)):
            failed += not row.holds
            verdict = "" if row.holds else "   OUTSIDE"
            number = f"{row.value:8.4f}   {row.low:.4f} … {row.high:.4f}"
            sys.stdout.write(f"{row.system:22} {row.measure:36} {number}{verdict}\n")
    sys.stdout.write(f"{failed} numbers outside their interval\n" if failed else "every number holds\n")
    return int(failed > 0)


if __name__ == "__main__":
    main()
