"""A server on the loopback: pages for the browser, and the wire between a widget and its page.

The wire carries the widget's own comm messages, caught where a kernel would publish them: `comm_open` with state and
buffers, then one request for each message of the page, answered with what Python published meanwhile. It differs
from a notebook in the envelope only: HTTP in place of a websocket, and no ZeroMQ between.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import comm
from comm.base_comm import BaseComm

EMPTY = b"<!doctype html><meta charset=utf-8><title>empty</title><body>"


class Wire(BaseComm):
    """A comm that keeps what is published until somebody fetches it, and counts the bytes."""

    latest: Wire | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._waiting: list[tuple[dict[str, Any], list[bytes]]] = []
        self.opening = 0  # bytes of the opening state
        self.bytes = 0  # bytes published in all
        self.cpu = 0.0  # CPU seconds of answering
        super().__init__(*args, **kwargs)
        Wire.latest = self

    def publish_msg(self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **_: Any) -> None:
        """Keep a message, as bytes."""
        message = {"type": msg_type, "data": data, "metadata": metadata}
        raw = [bytes(memoryview(buffer).cast("B")) for buffer in buffers or ()]
        count = len(json.dumps(message)) + sum(map(len, raw))
        self.bytes += count
        if msg_type == "comm_open":
            self.opening += count
        self._waiting.append((message, raw))

    def fetch(self) -> bytes:
        """All messages that wait, in one frame: the length of a JSON head, the head, the buffers."""
        waiting, self._waiting = self._waiting, []
        head = json.dumps([{**message, "buffers": [len(b) for b in buffers]} for message, buffers in waiting]).encode()
        return b"".join([struct.pack("<I", len(head)), head, *(b for _, buffers in waiting for b in buffers)])

    def receive(self, data: Mapping[str, Any]) -> bytes:
        """Hand a message of the page to the widget; what it published meanwhile."""
        before = time.thread_time()
        self.handle_msg({"content": {"data": dict(data)}, "buffers": [], "metadata": {}})
        self.cpu += time.thread_time() - before
        return self.fetch()


def catch_comms() -> None:
    """From now on, widgets open wires instead of comms."""
    comm.create_comm = Wire  # type: ignore[assignment]  # where a kernel puts its own class too


class Server:
    """Serves files by name, and the latest wire at `/open` and `/message`."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes | Path] = {
            "/empty": EMPTY,
            "/live": (Path(__file__).parent / "live.html").read_bytes(),
        }
        self.wire: Wire | None = None
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else a body waits for the receipt of its head: 40 ms

            def do_GET(self) -> None:
                if self.path == "/open" and server.wire:
                    self._answer(server.wire.fetch(), "application/octet-stream")
                elif (page := server.pages.get(self.path)) is not None:
                    self._answer(page.read_bytes() if isinstance(page, Path) else page, "text/html; charset=utf-8")
                else:
                    self.send_error(404)

            def do_POST(self) -> None:
                data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert server.wire
                self._answer(server.wire.receive(data), "application/octet-stream")

            def _answer(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Server:
        Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
