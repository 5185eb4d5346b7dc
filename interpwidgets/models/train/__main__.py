"""Train a model system, or write the card of one from its runs.

    python -m interpwidgets.models.train induction-2l --seed 1 --out runs
    python -m interpwidgets.models.train card induction-2l --out runs --ship 0

The first stops and goes on wherever it was cut off. The second measures every finished run in the folder, ships one
of them and writes its card.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from interpwidgets.models.train.induction import NAME, Recipe, train

_SYSTEMS = Path(__file__).parent.parent / "systems"


def main(arguments: list[str] | None = None) -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(
        prog="python -m interpwidgets.models.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(NAME, help="train it; the same seed gives the same weights")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--out", type=Path, default=Path("runs"), help="where the run gets a folder of its own")
    run.add_argument("--steps", type=int, default=Recipe.steps, help="another number makes another run")
    card = commands.add_parser("card", help="measure the finished runs, ship one, write its card")
    card.add_argument("system", choices=[NAME])
    card.add_argument("--out", type=Path, default=Path("runs"), help="the folder of the runs")
    card.add_argument("--ship", type=int, default=0, help="the seed whose weights are shipped")
    card.add_argument("--into", type=Path, default=_SYSTEMS / NAME, help="the folder of the system")
    given = parser.parse_args(arguments)

    logging.basicConfig(format="%(message)s", level=logging.INFO)
    if given.command == NAME:
        folder = train(Recipe(seed=given.seed, steps=given.steps), given.out)
        logging.getLogger(__name__).info("%s", folder)
    else:
        from interpwidgets.models.train.card import write_card

        write_card(given.out, given.ship, given.into)


if __name__ == "__main__":
    main()
