"""What a workshop's server keeps: learners and their events, in SQLite or wherever SQLAlchemy can.

An event is kept under its learner and its id, so that what is sent again is not counted again. One thread writes:
what many learners send in the same moment goes to the disk in one transaction, and each is told only afterwards.
"""

from __future__ import annotations

import hashlib
import math
import queue
import secrets
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interpwidgets.errors import InputError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

__all__ = ["Full", "Store", "as_event", "clean", "new_code"]

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # none is mistaken for another on a whiteboard
LEARNERS = 2000  # more than a workshop has
EVENTS = 20_000  # of one learner
_FACTS = {"what": 20, "exercise": 80, "status": 20, "misconception": 200}  # texts, and how long they may be


class Full(Exception):  # noqa: N818  not a mistake of anyone's
    """The store takes no more learners, or no more of this one's events."""


def new_code() -> str:
    """A join code of six letters and digits: a thousand million of them."""
    return "".join(secrets.choice(LETTERS) for _ in range(6))


def clean(text: Any, longest: int) -> str:
    """Text from a stranger as one line: no control characters, none that turns the direction of what follows."""
    kept = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in str(text)[: 4 * longest])
    return " ".join(kept.split())[:longest]


def as_event(given: Any) -> dict[str, Any] | None:
    """A stranger's event as a row, known facts only; None where it is none."""
    if not isinstance(given, dict):
        return None
    row: dict[str, Any] = {name: clean(given.get(name, ""), longest) for name, longest in _FACTS.items()}
    row |= {name: _number(given.get(name)) for name in ("time", "version", "number", "confidence", "score")}
    key = given.get("id")
    if not (isinstance(key, str) and 8 <= len(key) <= 64 and key.isalnum() and key.isascii()):
        return None
    if not row["exercise"] or row["what"] not in ("check", "hint", "solution") or row["time"] is None:
        return None
    return {"id": key, **row, "version": int(row["version"] or 1)}


def _number(value: Any) -> float | None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e12
    return float(value) if good and math.isfinite(value) else None


@dataclass
class _Job:
    work: Callable[[Connection], Any]
    done: Future[Any]


class Store:
    """Learners and events of one workshop.

    Args:
        url: a SQLAlchemy URL: `sqlite:///workshop.db`, `postgresql+psycopg://user@host/name`.
        code: the join code; where there is none, the one that was kept, or a new one.

    Raises:
        InputError: the database cannot be opened.
        ImportError: SQLAlchemy, or the database's driver, is not installed.
    """

    def __init__(self, url: str, code: str | None = None) -> None:
        try:
            import sqlalchemy as sa
        except ImportError:
            raise ImportError(
                'The workshop keeps its events by SQLAlchemy: pip install "interpwidgets[workshop]"'
            ) from None
        try:
            self.engine = _engine(url)
            _tables().create_all(self.engine)
            self.code = self._setting("code", code or new_code(), replace=code is not None)
            self.key = self._setting("key", secrets.token_urlsafe(18))  # opens the board
        except sa.exc.ArgumentError:
            raise InputError(f"{url!r} is no database URL: sqlite:///workshop.db, or postgresql+psycopg://…") from None
        except sa.exc.SQLAlchemyError as error:
            raise InputError(f"The database does not open: {getattr(error, 'orig', None) or error}") from None
        self._jobs: queue.Queue[_Job | None] = queue.Queue()
        self._writer = threading.Thread(target=self._write, name="workshop-store", daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Write what waits, and close the database."""
        self._jobs.put(None)
        self._writer.join()
        self.engine.dispose()

    def add(self, token: str, name: str, events: Iterable[dict[str, Any]]) -> int:
        """Keep a learner's events; how many were new. They are on the disk when this returns.

        Raises:
            Full: there are too many learners, or too many events of hers.
            sqlalchemy.exc.SQLAlchemyError: the database did not take them.
        """
        rows = list({event["id"]: event for event in events}.values())
        return int(self._wait_for(lambda connection: _add(connection, _identity(token), name, rows)))

    def forget(self, token: str) -> int:
        """Delete a learner and her events; how many."""
        return int(self._wait_for(lambda connection: _forget(connection, _identity(token))))

    def learners(self) -> dict[str, str]:
        """Names by identity, in the order of joining."""
        return {row["id"]: row["name"] for row in self._all("learners", "joined", "id")}

    def events(self) -> list[dict[str, Any]]:
        """All events in the order of their time."""
        return self._all("events", "time", "id")

    def _all(self, table: str, *order: str) -> list[dict[str, Any]]:
        import sqlalchemy as sa

        kept = _tables().tables[table]
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(kept).order_by(*(kept.c[name] for name in order))).mappings()
            return [dict(row) for row in rows]

    def _setting(self, name: str, value: str, *, replace: bool = False) -> str:
        settings = _tables().tables["settings"]
        with self.engine.begin() as connection:
            new = _insert(connection, settings).values(name=name, value=value)
            same = {"index_elements": ["name"]}
            connection.execute(
                new.on_conflict_do_update(**same, set_={"value": value})
                if replace
                else new.on_conflict_do_nothing(**same)
            )
            return str(connection.execute(settings.select().where(settings.c.name == name)).mappings().one()["value"])

    def _wait_for(self, work: Callable[[Connection], Any]) -> Any:
        job = _Job(work, Future())
        self._jobs.put(job)
        return job.done.result(timeout=30)

    def _write(self) -> None:
        """Whatever waits is one transaction; where that fails, each is one of its own, so that one hurts no other."""
        open_ = True
        while open_:
            jobs = [self._jobs.get()]
            while not self._jobs.empty() and len(jobs) < 500:
                jobs.append(self._jobs.get())
            open_ = None not in jobs
            waiting = [job for job in jobs if job is not None]
            if waiting and not self._commit(waiting):
                for job in waiting:
                    self._commit([job], last=True)

    def _commit(self, jobs: list[_Job], *, last: bool = False) -> bool:
        try:
            with self.engine.begin() as connection:
                results = [job.work(connection) for job in jobs]
        except Exception as error:  # noqa: BLE001  goes to those who wait
            if last:
                jobs[0].done.set_exception(error)
            return False
        for job, result in zip(jobs, results, strict=True):
            job.done.set_result(result)
        return True


def _identity(token: str) -> str:
    """What a learner is kept under; it does not let anyone send in her name."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


def _engine(url: str) -> Engine:
    import sqlalchemy as sa

    engine = sa.create_engine(url, pool_pre_ping=True)
    if engine.dialect.name not in ("sqlite", "postgresql"):
        raise InputError(f"The workshop keeps its events in SQLite or PostgreSQL; got {engine.dialect.name}.")
    if engine.dialect.name == "sqlite":

        @sa.event.listens_for(engine, "connect")
        def set_up(connection: Any, _: Any) -> None:
            cursor = connection.cursor()
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=20000"):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

    return engine


def _tables() -> Any:
    import sqlalchemy as sa

    if not _TABLES:
        meta = sa.MetaData()
        sa.Table("settings", meta, sa.Column("name", sa.String(20), primary_key=True), sa.Column("value", sa.Text))
        sa.Table(
            "learners",
            meta,
            sa.Column("id", sa.String(16), primary_key=True),
            sa.Column("name", sa.Text, nullable=False),
            sa.Column("joined", sa.Double, nullable=False),
            sa.Column("events", sa.Integer, nullable=False),
        )
        sa.Table(
            "events",
            meta,
            sa.Column("learner", sa.String(16), primary_key=True),
            sa.Column("id", sa.String(64), primary_key=True),
            *(sa.Column(name, sa.Text, nullable=False) for name in _FACTS),
            sa.Column("version", sa.BigInteger, nullable=False),
            *(sa.Column(name, sa.Double) for name in ("time", "number", "confidence", "score")),
        )
        _TABLES.append(meta)
    return _TABLES[0]


_TABLES: list[Any] = []  # made once, when SQLAlchemy is there


def _insert(connection: Connection, table: Any) -> Any:
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_postgresql

        return insert_postgresql(table)
    from sqlalchemy.dialects.sqlite import insert

    return insert(table)


def _add(connection: Connection, learner: str, name: str, rows: list[dict[str, Any]]) -> int:
    import sqlalchemy as sa

    learners, events = _tables().tables["learners"], _tables().tables["events"]
    known = connection.execute(sa.select(learners).where(learners.c.id == learner)).mappings().first()
    if known is None:
        if (connection.scalar(sa.select(sa.func.count()).select_from(learners)) or 0) >= LEARNERS:
            raise Full(f"The workshop is full: {LEARNERS} learners.")
        connection.execute(learners.insert().values(id=learner, name=name, joined=time.time(), events=0))
    if (known["events"] if known else 0) + len(rows) > EVENTS:
        raise Full(f"The workshop takes no more than {EVENTS} events of a learner.")
    new = 0
    if rows:
        insert = _insert(connection, events).on_conflict_do_nothing(index_elements=["learner", "id"])
        given = [{"learner": learner, **row} for row in rows]  # beside the statement, which is then compiled once
        new = len(connection.execute(insert.returning(events.c.id), given).all())  # drivers disagree on `rowcount`
    if new or (known and known["name"] != name):
        hers = sa.update(learners).where(learners.c.id == learner)
        connection.execute(hers.values(name=name, events=learners.c.events + new))
    return new


def _forget(connection: Connection, learner: str) -> int:
    import sqlalchemy as sa

    learners, events = _tables().tables["learners"], _tables().tables["events"]
    hers = sa.delete(events).where(events.c.learner == learner).returning(events.c.id)
    count = len(connection.execute(hers).all())
    connection.execute(sa.delete(learners).where(learners.c.id == learner))
    return count
