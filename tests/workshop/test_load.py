"""Two hundred learners at once, twenty checks each, against one server in a process of its own."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import threading
from collections import Counter

import pytest

from interpwidgets.course import progress
from interpwidgets.course.workshop import client
from interpwidgets.course.workshop.store import Store

LEARNERS, CHECKS = 200, 20


@pytest.mark.slow
def test_two_hundred_learners_lose_nothing(tmp_path):
    database = f"sqlite:///{tmp_path / 'workshop.db'}"
    command = [sys.executable, "-m", "interpwidgets", "workshop", "serve", "--port", "0", "--db", database]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        said = _until_ready(server)
        url, code = re.search(r"join (http://[^/]+)/(\w+)", said).groups()
        learners = [_learner(tmp_path / f"{number}", url, code, number) for number in range(LEARNERS)]
        together = threading.Barrier(LEARNERS)
        threads = [threading.Thread(target=_work, args=(folder, together)) for folder in learners]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
        server.stdout.close()
    store = Store(database)
    try:
        counts = Counter(event["learner"] for event in store.events())
        assert len(store.learners()) == len(counts) == LEARNERS
        assert set(counts.values()) == {CHECKS}
        assert {(e["learner"], round(e["confidence"] * 1000)) for e in store.events()} == {
            (who, number) for who in counts for number in range(CHECKS)
        }
    finally:
        store.close()


def _until_ready(server):
    said = ""
    while "Ctrl+C" not in said:
        line = server.stdout.readline()
        assert line, said
        said += line
    return said


def _learner(folder, url, code, number):
    client._keep(
        folder / "workshop.json", client.Membership(url, code, f"{number:03}-is-a-token-for-tests", f"no. {number}")
    )
    client._keep(folder / "workshop-sent.json", client._Position(0, 0.0))
    return folder


def _work(folder, together):
    """Check and send, check and send; whatever was refused for being too much at once is sent at the end."""
    together.wait()
    for number in range(CHECKS):
        event = {"time": 1e9 + number, "what": "check", "exercise": "heads.share", "version": 1, "status": "wrong"}
        line = client.json.dumps({**event, "confidence": number / 1000}).encode() + b"\n"
        progress.write_line(folder / "events.jsonl", line)
        client.send(folder)
    pause = threading.Event()
    while client.send(folder).waiting:
        pause.wait(random.uniform(0.2, 1))
