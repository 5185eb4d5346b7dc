"""`interpwidgets workshop serve | join | status | rename | leave`."""

from __future__ import annotations

import re
import signal
import threading
from argparse import ArgumentTypeError, Namespace
from typing import Any

__all__ = ["add_workshop"]


def add_workshop(commands: Any) -> None:
    """Add the command to those of `interpwidgets`."""
    workshop = commands.add_parser("workshop", help="show a class's progress on one live board; join one")
    actions = workshop.add_subparsers(dest="action", required=True, metavar="action")
    serve = actions.add_parser("serve", help="the teacher: start the board, and print how learners join")
    serve.add_argument("--port", type=int, default=8765, help="(%(default)s; 0: any that is free)")
    serve.add_argument("--host", default="127.0.0.1", help="0.0.0.0 opens it to the network (%(default)s)")
    serve.add_argument("--db", default="sqlite:///workshop.db", help="a SQLAlchemy URL (%(default)s)")
    serve.add_argument("--code", type=_code, help="the join code (a new one; later the same)")
    serve.set_defaults(run=_serve)
    join = actions.add_parser("join", help="a learner: show the workshop how your checks end, from now on")
    join.add_argument("address", help="what the teacher gave: http://192.0.2.7:8765/KM3TPA")
    join.add_argument("--name", help="what the board calls you (an animal)")
    join.set_defaults(run=_join)
    actions.add_parser("status", help="whether you are in one, and what waits").set_defaults(run=_status)
    rename = actions.add_parser("rename", help="be called otherwise on the board")
    rename.add_argument("name")
    rename.set_defaults(run=_rename)
    leave = actions.add_parser("leave", help="send nothing any more")
    leave.add_argument("--forget", action="store_true", help="have the workshop delete what you sent")
    leave.set_defaults(run=_leave)


def _code(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]{4,40}", text):
        raise ArgumentTypeError("4 to 40 letters and digits")
    return text.upper()


def _serve(given: Namespace) -> int:
    from interpwidgets.course.workshop.server import serve

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl+C does
    return serve(given.host, given.port, given.db, given.code)


def _join(given: Namespace) -> int:
    from interpwidgets.course.workshop.client import join

    print(join(given.address, given.name))
    print(
        "Sent from now on: which exercise, when, how the check ended, and hints you took; never your code or your "
        "answers.\nAnother name: interpwidgets workshop rename NAME. To leave: interpwidgets workshop leave."
    )
    return 0


def _status(_: Namespace) -> int:
    from interpwidgets.course.workshop.client import status

    found = status()
    print(found)
    return 1 if found.error else 0


def _rename(given: Namespace) -> int:
    from interpwidgets.course.workshop.client import rename

    print(rename(given.name))
    return 0


def _leave(given: Namespace) -> int:
    from interpwidgets.course.workshop.client import leave

    print(leave(forget=given.forget))
    return 0
