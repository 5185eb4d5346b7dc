"""A learner's side of a workshop: her events, sent when she is online, and a check never waits for it.

The event log is the queue: what is kept beside it is only how far it has been sent. An event's id follows from what
is sent, so that sending it twice, from two kernels or after an answer was lost, counts once.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import http.client
import ipaddress
import json
import os
import re
import secrets
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from interpwidgets.course.progress import home
from interpwidgets.course.workshop.store import clean
from interpwidgets.errors import InputError

__all__ = ["Membership", "Status", "join", "leave", "nudge", "rename", "status"]

SENT = ("time", "what", "exercise", "version", "status", "misconception", "number", "confidence", "score")
_TROUBLE = (OSError, ValueError, KeyError, TypeError, http.client.HTTPException)  # of a network and its servers
_ALONE = threading.Lock()
_BATCH = 200  # events a request
_PATIENCE = 3  # seconds that an answer may take
_LONGEST_WAIT = 60  # seconds between attempts
_HOW = (
    "brisk calm clever daring early eager fair fond gentle glad happy keen kind lively lucky merry mild noble patient "
    "quick quiet rare sharp shy silent spry steady sure tidy warm wild witty"
)
_WHO = (
    "badger beaver bison crane curlew dolphin egret falcon ferret finch gecko heron hornbill ibex jackal kestrel lemur "
    "lynx marmot marten newt ocelot otter petrel plover puffin raven seal shrew sparrow stoat swift tapir tern toad "
    "turtle viper vole weasel wombat wren"
)


@dataclass(frozen=True)
class Membership:
    """Which workshop, and who one is there; the token is only for sending."""

    url: str
    code: str
    token: str
    name: str


@dataclass(frozen=True)
class Status:
    """Where one stands with a workshop, in words."""

    url: str = ""
    name: str = ""
    sent: int = 0
    waiting: int = 0
    error: str = ""

    def __str__(self) -> str:
        if not self.url:
            return "You are in no workshop: nothing is sent."
        waiting = f", {self.waiting} {'waits' if self.waiting == 1 else 'wait'}" if self.waiting else ""
        trouble = f" The last attempt failed: {self.error}" if self.error else ""
        return f"You are “{self.name}” at {self.url}. {self.sent} events sent{waiting}.{trouble}"

    __repr__ = __str__


@dataclass(frozen=True)
class _Position:
    offset: int  # bytes of the log that need not be looked at again
    since: float  # when she joined
    sent: int = 0
    replaced: bool = False  # the log is another than at joining: only what came later is sent
    error: str = ""


def join(address: str, name: str | None = None) -> Status:
    """Show a workshop from now on which exercises you check and how they end; never your code or your answers.

    Args:
        address: what the teacher gave: `http://192.0.2.7:8765/KM3TPA`, or `http://…/?code=KM3TPA`.
        name: what the board calls you; otherwise an animal that nobody knows is you, or the one you were.

    Raises:
        InputError: the address has no code, the workshop does not know it, or your folder cannot be written to.
    """
    url, code = _parsed(address)
    folder = home()
    before = _membership(folder)
    if before is None or before.url != url:
        before = None
        known = Membership(url, code, secrets.token_urlsafe(24), _animal())
    else:
        known = replace(before, code=code)
    known = replace(known, name=clean(name or "", 40) or known.name)
    trouble = ""
    try:
        _post(known, "events", {"events": []})
    except _TROUBLE as error:
        if isinstance(error, _RefusedError) and error.code in (403, 404):
            raise InputError(f"{url} did not let you in: {error}") from None
        trouble = _words(error)  # she is offline, or the workshop has not begun: her events wait
    try:
        if before is None:
            _keep(folder / "workshop-sent.json", _Position(_size(folder), time.time()))
        _keep(folder / "workshop.json", known)
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error.strerror or error}.") from None
    found = send(folder)
    nudge()
    return replace(found, error=found.error or trouble)


def rename(name: str) -> Status:
    """Be called otherwise on the board, also for what was sent before.

    Raises:
        InputError: you are in no workshop, or the name is empty.
    """
    known = _membership(home())
    if known is None:
        raise InputError("You are in no workshop. Join one first: interpwidgets workshop join ADDRESS")
    if not clean(name, 40):
        raise InputError("A name has 1 to 40 characters.")
    return join(f"{known.url}/{known.code}", name)


def leave(*, forget: bool = False) -> Status:
    """Send nothing any more; `forget` has the workshop delete what you sent.

    Raises:
        InputError: the workshop could not be asked to forget; you are still in it.
    """
    folder = home()
    known = _membership(folder)
    if known and forget:
        try:
            _post(known, "forget", {})
        except _TROUBLE as error:
            raise InputError(
                f"{known.url} could not be asked to forget you: {_words(error)} Try again later."
            ) from None
    for name in ("workshop.json", "workshop-sent.json"):
        (folder / name).unlink(missing_ok=True)
    return Status()


def status() -> Status:
    """Where you stand with the workshop, after another attempt to send what waits."""
    return send(home())


def send(folder: Path) -> Status:
    """Send what waits in a folder's log; what went wrong is in the status, and the rest waits."""
    known = _membership(folder)
    if known is None:
        return Status()
    position = _position(folder)
    error = ""
    try:
        for events, offset in _batches(folder, position):
            new = _post(known, "events", {"events": events})["new"]
            position = _advanced(folder, offset, int(new))
    except _TROUBLE as trouble:
        error = _words(trouble)
    if error != position.error:
        position = _advanced(folder, position.offset, 0, error)
    waiting = sum(len(events) for events, _ in _batches(folder, position))
    return Status(f"{known.url}/{known.code}", known.name, position.sent, waiting, error)


def nudge() -> None:
    """Say that there may be something to send. It returns at once, and never raises."""
    with contextlib.suppress(RuntimeError):  # no thread can be started, as when Python is ending
        _SENDER.wake(home())


class _RefusedError(OSError):
    """The server answered, but not with what was asked for."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code = code


class _Sender:
    """The thread that sends: started by the first event, and again in a process that was forked."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._woken = threading.Event()
        self._idle = threading.Event()
        self._folder = Path()
        self._process = 0

    def wake(self, folder: Path) -> None:
        self._folder = folder
        if self._process != os.getpid():  # a fork has the objects, but not the thread
            self._woken, self._idle, self._thread, self._process = (
                threading.Event(),
                threading.Event(),
                None,
                os.getpid(),
            )
        self._idle.clear()
        self._woken.set()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="workshop", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """A moment for what was checked last, as `interpwidgets check` ends; what is not sent by then waits."""
        if self._thread is not None and self._process == os.getpid():
            self._idle.wait(1)

    def _run(self) -> None:
        pause = 2.0
        while True:
            self._woken.clear()
            try:
                waits = bool(send(self._folder).error)
            except Exception:  # noqa: BLE001  nothing here may disturb a lesson
                waits = True
            if not waits:
                pause = 2.0
            if not self._woken.is_set():
                self._idle.set()
            if waits:
                time.sleep(pause * (0.5 + secrets.randbelow(1000) / 1000))  # not all at once when a server comes back
                pause = min(2 * pause, _LONGEST_WAIT)
            else:
                self._woken.wait()


_SENDER = _Sender()
atexit.register(_SENDER.finish)


def _animal() -> str:
    return f"{secrets.choice(_HOW.split())} {secrets.choice(_WHO.split())}"


def _parsed(address: str) -> tuple[str, str]:
    """The server's URL, and the code."""
    address = address.strip()
    parts = urllib.parse.urlsplit(address if "://" in address else f"http://{address}")  # as read from a whiteboard
    code = urllib.parse.parse_qs(parts.query).get("code", [""])[0]
    path = parts.path.rstrip("/")
    if not code:
        path, _, code = path.rpartition("/")
    if parts.scheme not in ("http", "https") or not parts.netloc or not re.fullmatch(r"[\w-]{1,40}", code):
        raise InputError(
            f"A workshop's address is like http://192.0.2.7:8765/KM3TPA, with its join code; got {address!r}."
        )
    return f"{parts.scheme}://{parts.netloc}{path}", code.upper()


def _batches(folder: Path, position: _Position) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """What waits, and where in the log each batch ends."""
    try:
        with _log(folder).open("rb") as file:
            file.seek(position.offset)
            lines = file.read().splitlines(keepends=True)
    except OSError:
        return
    offset, batch = position.offset, []
    for line in lines:
        if not line.endswith(b"\n"):  # it is being written
            break
        offset += len(line)
        if (event := _event(line)) and not (position.replaced and event["time"] < position.since):
            batch.append(event)
        if len(batch) == _BATCH:
            yield batch, offset
            batch = []
    if batch:
        yield batch, offset


def _event(line: bytes) -> dict[str, Any] | None:
    """What is sent of a line of the log."""
    try:
        found = json.loads(line)
        event = {name: found[name] for name in SENT if name in found}
        event["time"], event["exercise"] = float(found["time"]), str(found["exercise"])
    except (ValueError, TypeError, KeyError):
        return None
    told = json.dumps(event, sort_keys=True).encode()
    return {"id": hashlib.sha256(told).hexdigest()[:32], **event}


def _post(known: Membership, what: str, facts: dict[str, Any]) -> Any:
    body = {"code": known.code, "learner": known.token, "name": known.name, **facts}
    request = urllib.request.Request(  # noqa: S310  http or https: _parsed
        f"{known.url}/api/{what}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "User-Agent": "interpwidgets"},
    )
    try:
        with _opener(known.url).open(request, timeout=_PATIENCE) as answer:
            return json.loads(answer.read(100_000))
    except urllib.error.HTTPError as error:
        with error:
            said = ""
            with contextlib.suppress(*_TROUBLE):
                said = clean(json.loads(error.read(10_000))["error"], 300)
        raise _RefusedError(error.code, said or f"The server answered {error.code}.") from None


def _opener(url: str) -> urllib.request.OpenerDirector:
    """By the proxy that the machine uses, but not to the machine itself or its neighbours."""
    host = urllib.parse.urlsplit(url).hostname or ""
    near = host == "localhost"
    with contextlib.suppress(ValueError):
        near = near or ipaddress.ip_address(host).is_private
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if near else []))


def _words(error: Exception) -> str:
    """What went wrong as a sentence; the server's own where it gave one."""
    if isinstance(error, _RefusedError):
        return str(error)
    reason = getattr(error, "reason", None) or error
    return f"The workshop was not reached ({getattr(reason, 'strerror', None) or reason})."


def _log(folder: Path) -> Path:
    return folder / "events.jsonl"


def _membership(folder: Path) -> Membership | None:
    try:
        return Membership(**json.loads((folder / "workshop.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _position(folder: Path) -> _Position:
    try:
        found = _Position(**json.loads((folder / "workshop-sent.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return _Position(0, time.time(), replaced=True)
    return replace(found, offset=0, replaced=True) if _size(folder) < found.offset else found


def _size(folder: Path) -> int:
    try:
        return _log(folder).stat().st_size
    except FileNotFoundError:
        return 0


def _advanced(folder: Path, offset: int, new: int, error: str = "") -> _Position:
    """Keep how far it was sent; of two that send at once the farther one holds."""
    with _ALONE:
        old = _position(folder)
        now = replace(old, offset=max(offset, old.offset), sent=old.sent + new, error=error)
        with contextlib.suppress(OSError):  # it will be sent again, and counted once
            _keep(folder / "workshop-sent.json", now)
        return now


def _keep(path: Path, value: Membership | _Position) -> None:
    """Write a file whole, for nobody else to read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    beside.touch(mode=0o600)
    beside.write_text(json.dumps(asdict(value)), "utf-8")
    beside.replace(path)
