"""The workshop's server: takes events from those who have the join code, shows the board to whoever has its key.

It needs nothing but Python and the store. It trusts nobody: sizes and rates are limited, what learners send is kept
and shown as text only, and a page may load nothing but its own script and style.
"""

from __future__ import annotations

import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from interpwidgets.course.workshop.board import board, to_csv
from interpwidgets.course.workshop.store import Full, Store, as_event, clean
from interpwidgets.errors import InputError

__all__ = ["Rate", "Server", "serve"]

MOST = 1_000_000  # bytes of a request
AT_ONCE = 500  # events a request
CONNECTIONS = 600
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_PAGES = {
    "/board": ("board.html", "text/html"),
    "/board.js": ("board.js", "text/javascript"),
    "/board.css": ("board.css", "text/css"),
    "/join.js": ("join.js", "text/javascript"),
}


class Rate:
    """So many a second, and a burst of so many at first, for each of those who come.

    Args:
        each: requests a second.
        burst: requests at once.
    """

    def __init__(self, each: float, burst: float) -> None:
        self.each, self.burst = each, burst
        self._left: dict[str, tuple[float, float]] = {}  # requests, and when that was
        self._lock = threading.Lock()

    def allows(self, who: str, cost: float = 1) -> bool:
        """Take as much from who comes, if she has it left."""
        now = time.monotonic()
        with self._lock:
            if len(self._left) > 10_000:
                full = self.burst / self.each
                self._left = {key: kept for key, kept in self._left.items() if now - kept[1] < full}
            left, then = self._left.get(who, (self.burst, now))
            left = min(self.burst, left + (now - then) * self.each)
            good = left >= cost
            self._left[who] = (left - cost if good else left, now)
            return good


class Server(ThreadingHTTPServer):
    """One workshop on one port. `server.serve_forever()`; `server.close()`.

    A whole class may stand behind one address, so that an address may do far more than a learner.
    """

    daemon_threads = True
    request_queue_size = 512

    def __init__(
        self,
        store: Store,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        order: Sequence[str] = (),
        learner: Rate | None = None,
        address: Rate | None = None,
    ) -> None:
        self.store, self.order = store, order
        self.learner, self.address = learner or Rate(2, 40), address or Rate(300, 3000)
        self._slots = threading.BoundedSemaphore(CONNECTIONS)
        self._drawn: tuple[float, bytes] = (0, b"")
        self._drawing = threading.Lock()
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"Port {port} of {host} cannot be opened: {getattr(error, 'strerror', None) or error}. If a workshop "
                "runs there already, end it with Ctrl+C; --port 0 takes any port that is free."
            ) from None

    def server_bind(self) -> None:
        """Without looking the host's name up, which may take seconds offline."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    @property
    def port(self) -> int:
        """The port that was opened."""
        return int(self.server_address[1])

    def close(self) -> None:
        """Take no more, and write what was taken."""
        self.server_close()
        self.store.close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread each, but not without end."""
        if not self._slots.acquire(timeout=1):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Give the place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is nothing to say."""

    def drawn(self) -> bytes:
        """The board as JSON, a second old at most."""
        with self._drawing:
            if time.monotonic() - self._drawn[0] > 1 or not self._drawn[1]:
                found = board(self.store.learners(), self.store.events(), self.order)
                self._drawn = (time.monotonic(), json.dumps({"code": self.store.code, **found}).encode())
            return self._drawn[1]


class _Answer(Exception):  # noqa: N818  what a request ends with when it is not served
    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "interpwidgets", ""
    timeout = 10  # seconds for a request to come

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the library's name
        """Nobody's addresses are written down."""

    def do_GET(self) -> None:
        """Pages for everybody, data for the teacher."""
        self._served(self._get)

    def do_POST(self) -> None:
        """What learners send."""
        self._served(self._post)

    def _served(self, work: Callable[[str], tuple[str, bytes]]) -> None:
        try:
            if not self.server.address.allows(self.client_address[0]):
                raise _Answer(429, "Too many requests from this address; try again in a while.")
            kind, body = work(self.path.partition("?")[0])
            self._send(200, kind, body)
        except _Answer as answer:
            self._refuse(answer.status, str(answer))
        except Full as full:
            self._refuse(507, str(full))
        except (ConnectionError, TimeoutError):
            pass  # there is nobody to tell
        except Exception:  # noqa: BLE001  the database is locked, the disk is full: she tries again later
            self._refuse(503, "The workshop could not keep it; try again later.")

    def _get(self, path: str) -> tuple[str, bytes]:
        if path in _PAGES:
            name, kind = _PAGES[path]
            return kind, _file(name)
        if path == "/api/board":
            self._teacher()
            return "application/json", self.server.drawn()
        if path == "/api/events.csv":
            self._teacher()
            table = to_csv(self.server.store.learners(), self.server.store.events())
            return "text/csv", ("\ufeff" + table).encode()  # so that a spreadsheet reads UTF-8
        if path.count("/") == 1 and (path == "/" or path[1:].isalnum()):  # a learner opened what she should join
            return "text/html", _file("join.html")
        raise _Answer(404, "There is nothing here.")

    def _post(self, path: str) -> tuple[str, bytes]:
        if path not in ("/api/events", "/api/forget"):
            raise _Answer(404, "There is nothing here.")
        given = self._body()
        token = given.get("learner")
        if not hmac.compare_digest(
            str(given.get("code")).upper().encode("utf-8", "replace"), self.server.store.code.encode()
        ):
            self.server.address.allows(self.client_address[0], 9)  # guessing is ten times as dear
            raise _Answer(403, "This is not the workshop's join code.")
        if not (isinstance(token, str) and 20 <= len(token) <= 100 and token.isascii()):
            raise _Answer(400, "A learner has a token of 20 to 100 characters.")
        if not self.server.learner.allows(token):
            raise _Answer(429, "Too many requests; try again in a while.")
        if path == "/api/forget":
            return _json({"forgotten": self.server.store.forget(token)})
        sent = given.get("events")
        if not isinstance(sent, list) or len(sent) > AT_ONCE:
            raise _Answer(400, f"Events are a list of {AT_ONCE} at most.")
        events = [event for one in sent if (event := as_event(one))]
        new = self.server.store.add(token, clean(given.get("name", ""), 40) or "nameless", events)
        return _json({"new": new, "known": len(events) - new, "refused": len(sent) - len(events)})

    def _teacher(self) -> None:
        scheme, _, key = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not hmac.compare_digest(
            key.encode("utf-8", "replace"), self.server.store.key.encode()
        ):
            self.server.address.allows(self.client_address[0], 9)
            raise _Answer(403, "The board opens with the address that `interpwidgets workshop serve` printed.")

    def _body(self) -> dict[str, Any]:
        if self.headers.get_content_type() != "application/json":  # which a foreign page may not send
            raise _Answer(415, "Send application/json.")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or len(length) > 12:
            raise _Answer(411, "Say how long the request is.")
        if int(length) > MOST:
            raise _Answer(413, f"A request has {MOST} bytes at most.")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ConnectionError
        try:
            given = json.loads(body)
        except (ValueError, RecursionError):
            given = None
        if not isinstance(given, dict):
            raise _Answer(400, "That is not a JSON object.")
        return given

    def _refuse(self, status: int, said: str) -> None:
        self._send(status, *_json({"error": said}))

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        text = kind if kind == "application/json" else f"{kind}; charset=utf-8"
        for name, value in {**_HEADERS, "Content-Type": text, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _json(value: dict[str, Any]) -> tuple[str, bytes]:
    return "application/json", json.dumps(value).encode()


def _file(name: str) -> bytes:
    return files(__package__).joinpath(name).read_bytes()


def serve(host: str, port: int, url: str, code: str | None) -> int:
    """Run a workshop until Ctrl+C, and say how to come in."""
    from interpwidgets.course.workshop.board import course_order

    store = Store(url, code)
    try:
        server = Server(store, host, port, order=course_order())
    except BaseException:
        store.close()
        raise
    inside = host in ("127.0.0.1", "localhost", "::1")
    shown = _own_address() if host in ("0.0.0.0", "::") else host  # noqa: S104  compared, not bound
    where = f"http://{f'[{shown}]' if ':' in shown else shown}:{server.port}"
    address = f"{where}/{store.code}"
    print(f"The board, for you:   {where}/board#{store.key}")
    print(f"For learners:         interpwidgets workshop join {address}")
    print(f'  or in a notebook:   from interpwidgets.course import workshop; workshop.join("{address}")')
    print(
        "Only this machine reaches it. --host 0.0.0.0 opens it to your network."
        if inside
        else "Open to the network: everybody on it can reach this port. Who has the code can send events, who has the "
        "board's address sees them, and who listens on the network can read along: it is not encrypted."
    )
    print(f"Kept in {store.engine.url.render_as_string()}. Ctrl+C ends it; started again, it goes on.", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("\nThe workshop has ended. What learners do now waits with them until it is started again.")
    finally:
        server.close()
    return 0


def _own_address() -> str:
    """This machine's address in its network; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()
