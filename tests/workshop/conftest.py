"""Servers that go down and come back on the same port and database, and learners with a folder each."""

from __future__ import annotations

import json
import os
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest

pytest.importorskip("sqlalchemy")

from interpwidgets.course.workshop import client
from interpwidgets.course.workshop.server import Rate, Server
from interpwidgets.course.workshop.store import Store, _tables

SHARE = SimpleNamespace(name="heads.share", version=1)


@contextmanager
def serving(store, **options):
    server = Server(store, **{"address": Rate(10_000, 10_000), **options})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.close()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A learner's folder; the thread that sends is not started, so that tests say when."""
    monkeypatch.setenv("INTERPWIDGETS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(client._SENDER, "wake", lambda folder: None)
    return tmp_path / "home"


@pytest.fixture
def start(tmp_path):
    """`with start() as server:`; the same database each time. INTERPWIDGETS_TEST_DB names one, which is emptied."""
    url = os.environ.get("INTERPWIDGETS_TEST_DB")
    if url:
        import sqlalchemy as sa

        engine = sa.create_engine(url)
        _tables().drop_all(engine)
        engine.dispose()
    url = url or f"sqlite:///{tmp_path / 'workshop.db'}"
    return lambda code="ABC234", **options: serving(Store(url, code), **options)


@pytest.fixture
def server(start):
    with ExitStack() as stack:
        yield stack.enter_context(start())


def post(server, what, body, **headers):
    """The status and the answer of one request."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    url = f"http://127.0.0.1:{server.port}/api/{what}"
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    return _answer(request)


def get(server, path, key=None):
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return _answer(urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers=headers))


def _answer(request):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers


def address(server):
    return f"http://127.0.0.1:{server.port}/{server.store.code}"
