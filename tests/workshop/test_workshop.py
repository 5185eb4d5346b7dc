"""A workshop: each event arrives once, whatever the network does; strangers do no harm."""

from __future__ import annotations

import csv
import io
import json
import random
import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack

import pytest
from workshop.conftest import SHARE, address, get, post

from interpwidgets.cli import main
from interpwidgets.course import progress, workshop
from interpwidgets.course.workshop import client
from interpwidgets.course.workshop.board import board, to_csv
from interpwidgets.course.workshop.server import Rate, serve
from interpwidgets.course.workshop.store import as_event, clean
from interpwidgets.errors import InputError

TOKEN = "a-token-that-nobody-else-has"


def checked(number, status="wrong", **facts):
    """Write a check down; its confidence says which it was."""
    progress.append("check", SHARE, status=status, confidence=number / 1000, **facts)


def kept(server):
    return sorted(round(1000 * event["confidence"]) for event in server.store.events())


def event(id="0123456789abcdef", **facts):  # noqa: A002
    return {"id": id, "time": 1.0, "what": "check", "exercise": "heads.share", "version": 1, "status": "wrong", **facts}


def sent(server, *events, code="ABC234", learner=TOKEN, name="quiet heron"):
    return post(server, "events", {"code": code, "learner": learner, "name": name, "events": list(events)})


def test_events_arrive_once_though_the_server_goes_and_comes_back(start, home):
    with start() as server:
        port = server.port
        checked(999)  # before she joined: not the workshop's business
        joined = workshop.join(address(server), "quiet heron")
        assert (joined.sent, joined.error) == (0, "")
        checked(0)
        assert workshop.status().sent == 1
    for number in range(1, 451):  # more than two batches
        checked(number)
    offline = workshop.status()
    assert (offline.sent, offline.waiting) == (1, 450)
    assert "450 wait. The last attempt failed: The workshop was not reached" in str(offline)
    with start(port=port) as server:
        assert (workshop.status().waiting, workshop.status().sent) == (0, 451)
        assert kept(server) == list(range(451))
        (home / "workshop-sent.json").unlink()  # how far she was is lost: all is sent that may be
        workshop.status()
        assert kept(server) == list(range(451))


def test_an_answer_that_was_lost_costs_nothing(server, home, monkeypatch):
    workshop.join(address(server))
    real, lost = client._post, iter([True, False, True, True, False] * 100)

    def lossy(*arguments):
        answer = real(*arguments)
        if next(lost):
            raise ConnectionResetError("Connection reset by peer")
        return answer

    monkeypatch.setattr(client, "_post", lossy)
    for number in range(20):
        checked(number)
        workshop.status()
    monkeypatch.undo()
    monkeypatch.setenv("INTERPWIDGETS_HOME", str(home))
    client.send(home)
    assert kept(server) == list(range(20))


def test_two_that_send_at_once_send_once(server, home):
    workshop.join(address(server))
    for number in range(300):
        checked(number)
    threads = [threading.Thread(target=client.send, args=(home,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept(server) == list(range(300))
    assert workshop.status().sent == 300


def test_a_log_that_was_begun_again_is_sent_from_its_beginning(server, home):
    workshop.join(address(server))
    for number in range(3):
        checked(number)
    workshop.status()
    (home / "events.jsonl").unlink()
    old = {"time": 5.0, "what": "check", "exercise": "heads.share", "version": 1, "confidence": 0.9}
    progress.write_line(home / "events.jsonl", json.dumps(old).encode() + b"\n")  # of before she joined
    checked(3)
    workshop.status()
    checked(4)
    assert workshop.status().waiting == 0
    assert kept(server) == [0, 1, 2, 3, 4]


def test_a_line_that_is_being_written_waits(server, home):
    workshop.join(address(server))
    checked(1)
    whole = (home / "events.jsonl").read_bytes()
    (home / "events.jsonl").write_bytes(whole + whole[:20])
    workshop.status()
    (home / "events.jsonl").write_bytes(whole + whole.replace(b"0.001", b"0.002"))
    workshop.status()
    assert kept(server) == [1, 2]


def test_only_what_was_promised_leaves_the_machine(server, home, monkeypatch):
    told = []
    real = client._post
    monkeypatch.setattr(client, "_post", lambda known, what, facts: (told.append(facts), real(known, what, facts))[1])
    workshop.join(address(server))
    checked(7, answer="def secret(): pass", misconception="over the columns")
    workshop.status()
    (only,) = told[-1]["events"]
    assert set(only) == {"id", "time", "what", "exercise", "version", "status", "misconception", "confidence"}
    assert "secret" not in json.dumps(told)


def test_a_check_waits_for_nobody(home, tmp_path):
    """The server takes connections and never answers; the check is over before anything was sent."""
    with ExitStack() as stack:
        import socket

        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        code = (
            "import time, types\n"
            "from interpwidgets.course import progress, workshop\n"
            "workshop.client._PATIENCE = 0.2\n"
            f"workshop.join('http://127.0.0.1:{silent.getsockname()[1]}/ABC234')\n"
            "workshop.client._PATIENCE = 30\n"
            "exercise = types.SimpleNamespace(name='heads.share', version=1)\n"
            "notes = [progress.append('check', exercise, status='passed') for _ in range(50)]\n"
            "print(set(notes), workshop.client._SENDER._thread.is_alive(), workshop.client._SENDER._idle.is_set())\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=25, check=True)
    assert done.stdout.split() == ["{''}", "True", "False"]


def test_a_short_command_still_sends_what_it_checked(server, home):
    code = (
        "import types\nfrom interpwidgets.course import progress, workshop\n"
        f"workshop.join({address(server)!r})\n"
        "progress.append('check', types.SimpleNamespace(name='heads.share', version=1), status='passed')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=25)
    assert [one["status"] for one in server.store.events()] == ["passed"]


def test_joining(server, home, capsys):
    with pytest.raises(InputError, match="did not let you in: This is not the workshop's join code"):
        workshop.join(f"http://127.0.0.1:{server.port}/WRONG2")
    assert str(workshop.status()) == "You are in no workshop: nothing is sent."
    for wrong in ("", "ABC234", "ftp://a/ABC234", "http://127.0.0.1:1/", "http:///ABC234", "127.0.0.1:1"):
        with pytest.raises(InputError, match="A workshop's address is like"):
            workshop.join(wrong)
    first = workshop.join(f"http://127.0.0.1:{server.port}/?code=abc234")
    assert len(first.name.split()) == 2
    assert workshop.join(address(server)).name == first.name  # again: the same learner
    assert workshop.join(address(server).removeprefix("http://").lower()).name == first.name  # from a whiteboard
    assert main(["workshop", "rename", "bright owl"]) == 0
    assert list(server.store.learners().values()) == ["bright owl"]
    assert (home / "workshop.json").stat().st_mode & 0o077 == 0 or sys.platform == "win32"
    checked(1)
    assert main(["workshop", "status"]) == 0
    assert "1 events sent" in capsys.readouterr().out
    assert main(["workshop", "leave", "--forget"]) == 0
    assert (server.store.learners(), server.store.events()) == ({}, [])
    checked(2)
    assert workshop.status().sent == 0


def test_before_the_workshop_begins(start, home):
    with start() as server:
        where = address(server)
    assert workshop.join(where).error
    checked(1)
    with start(port=int(where.split(":")[2].split("/")[0])) as server:
        assert workshop.status().waiting == 0
        assert kept(server) == [1]


def test_strangers(server):
    assert sent(server, event(), code="WRONG2")[0] == 403
    assert sent(server, event(), code=None)[0] == 403
    assert sent(server, event(), learner="short")[0] == 400
    assert post(server, "events", b"{" * 5000)[0] == 400
    assert post(server, "events", b"[" * 100_000)[0] == 400
    assert post(server, "events", b"\xff\xfe")[0] == 400
    assert post(server, "events", {}, **{"Content-Type": "text/plain"})[0] == 415
    assert post(server, "events", b"", **{"Content-Length": "2000000"})[0] == 413
    assert post(server, "elsewhere", {})[0] == 404
    assert get(server, "/../../etc/passwd")[0] == 404
    assert get(server, "/api/board")[0] == get(server, "/api/board", "wrong")[0] == 403
    assert get(server, "/api/board", server.store.code)[0] == 403  # a learner's code opens no board
    assert get(server, "/api/board", server.store.key)[0] == 200
    assert server.store.events() == []
    for path in ("/", "/ABC234", "/board", "/api/board"):
        headers = get(server, path)[2]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]


def test_what_is_no_event_is_refused_and_hurts_no_other(server):
    bad = [None, 3, {}, event(id="x"), event(id=7), event(time="now"), event(time=float("nan")), event(what="rm -rf")]
    status, said, _ = sent(server, *bad, event(), event())
    assert (status, json.loads(said)) == (200, {"new": 1, "known": 1, "refused": len(bad)})
    assert sent(server, *[event()] * 501)[0] == 400


@pytest.mark.parametrize(
    "name", ["\x00\ud800\n\u202egnp.exe", "<img src=x onerror=alert(1)>", "=1+1", "x" * 9999, "", None]
)
def test_hostile_names(server, name):
    status, _, _ = sent(server, event(misconception=name, exercise=name or "a.b"), name=name)
    assert status == 200
    (kept_name,) = server.store.learners().values()
    assert 1 <= len(kept_name) <= 40
    assert all(c.isprintable() for c in kept_name)
    status, table, _ = get(server, "/api/events.csv", server.store.key)
    assert status == 200
    rows = list(csv.reader(io.StringIO(table.removeprefix("\ufeff"))))
    assert len(rows) == 2
    assert all(cell[:1] not in ("=", "+", "-", "@", "\t", "\r") for cell in rows[1])
    assert get(server, "/api/board", server.store.key)[0] == 200


def test_nobody_writes_into_what_is_another_learners(server):
    sent(server, event(status="passed"))
    sent(server, event(status="wrong"), learner="another-token-of-somebody-else")
    assert sorted(one["status"] for one in server.store.events()) == ["passed", "wrong"]


def test_rates(start):
    with start(learner=Rate(0.001, 3), address=Rate(0.001, 8)) as server:
        assert [sent(server, event(f"{n:016}"))[0] for n in range(4)] == [200, 200, 200, 429]
        assert [sent(server, event(), learner=f"{n}-of-the-other-learners")[0] for n in range(5)] == [200] * 4 + [429]


def test_a_code_is_not_guessed_by_trying(start):
    with start(address=Rate(0.001, 30)) as server:
        codes = [sent(server, code=f"WRONG{n}")[0] for n in range(9)]
    assert codes == [403] * codes.count(403) + [429] * codes.count(429)
    assert 0 < codes.count(403) < 9


def test_the_code_and_the_key_outlive_the_server(start):
    with start(code=None) as server:
        first = server.store.code, server.store.key
    with start(code=None) as server:
        assert (server.store.code, server.store.key) == first
    with start(code="NEW222") as server:
        assert server.store.code == "NEW222"


def test_the_board_agrees_with_a_plain_count():
    rng = random.Random()
    who = [f"learner {n}" for n in range(12)]
    names = ["b.two", "a.one", "z.unknown"]
    events = []
    for clock in range(1, 601):
        status = rng.choice(["wrong", "wrong", "wrong", "error", "not attempted", "passed"])
        wrong = rng.choice(["swapped", "in percent", ""]) if status == "wrong" else ""
        one = event(str(clock).zfill(16), time=clock, status=status, misconception=wrong, exercise=rng.choice(names))
        events.append({"learner": rng.choice(who), **as_event(one)})
    drawn = board(dict.fromkeys(who, "same name"), events, ["a.one", "b.two"])
    assert [each["name"] for each in drawn["exercises"]] == ["a.one", "b.two", "z.unknown"]
    assert len({one["name"] for one in drawn["learners"]}) == 12
    for each in drawn["exercises"]:
        tried, needed, misled, stuck = 0, [], Counter(), 0
        for one in who:
            hers = [e for e in events if (e["learner"], e["exercise"]) == (one, each["name"])]
            hers = [e for e in hers if e["status"] != "not attempted"]
            upto = []
            for e in hers:
                upto.append(e)
                if e["status"] == "passed":
                    needed.append(len(upto))
                    break
            else:
                stuck += len(upto) >= 3
            tried += bool(upto)
            misled.update({e["misconception"] for e in upto if e["misconception"]})
        assert (each["tried"], each["passed"], each["stuck"]) == (tried, len(needed), stuck)
        middle = sorted(needed)
        half = (middle[(len(middle) - 1) // 2] + middle[len(middle) // 2]) / 2 if middle else None
        assert each["median_tries"] == half
        if misled:
            assert misled[each["misconception"]] == max(misled.values()) == each["misconception_learners"]


def test_who_went_on_from_what_she_did_not_solve_comes_last():
    tries = [(clock, who, "a.one") for clock, who in enumerate(["went on", "still there", "later"] * 3, 1)]
    tries += [(20, "went on", "b.two")]
    events = []
    for clock, who, exercise in tries:
        one = event(str(clock).zfill(16), time=float(clock), status="wrong", exercise=exercise)
        events.append({"learner": who, **as_event(one)})
    drawn = board({who: who for _, who, _ in tries}, events, [])
    assert [(one["learner"], one["left"]) for one in drawn["stuck"]] == [
        ("still there", False),
        ("later", False),
        ("went on", True),
    ]


def test_a_port_that_is_taken_says_what_to_do(server, tmp_path):
    with pytest.raises(InputError, match=r"Address already in use.*--port 0 takes any port that is free"):
        serve("127.0.0.1", server.port, f"sqlite:///{tmp_path / 'second.db'}", None)


def test_an_exercise_that_changed_is_counted_anew():
    events = [{"learner": "a", **as_event(event(str(n).zfill(16), status="passed"))} for n in range(2)]
    events.append({"learner": "a", **as_event(event("x" * 16, time=9.0, version=2))})
    (each,) = board({"a": "a"}, events, [])["exercises"]
    assert (each["tried"], each["passed"]) == (1, 0)


def test_clean():
    assert clean("  a\u202e\x00 b\n\tc ", 40) == "a b c"
    assert clean("Zoë 李 🦊", 40) == "Zoë 李 🦊"
    assert to_csv({"a": "@SUM(1)"}, [{"learner": "a", **as_event(event())}]).splitlines()[1].startswith("'@SUM(1),")


def test_databases_that_do_not_open(tmp_path):
    from interpwidgets.course.workshop.store import Store

    with pytest.raises(InputError, match="is no database URL"):
        Store("workshop.db")
    with pytest.raises(InputError, match="does not open"):
        Store(f"sqlite:///{tmp_path}/nowhere/workshop.db")


def test_one_who_sends_too_much_stops_nobody_else(server, monkeypatch):
    from interpwidgets.course.workshop import store

    monkeypatch.setattr(store, "EVENTS", 3)
    monkeypatch.setattr(store, "LEARNERS", 2)
    many = [event(f"{n:016}") for n in range(4)]
    answers = set()

    def send(who, events):
        answers.add((who, sent(server, *events, learner=who)[0]))

    both = [("first-of-the-learners", many), ("second-of-the-learners", many[:3])]
    threads = [threading.Thread(target=send, args=each) for each in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {("first-of-the-learners", 507), ("second-of-the-learners", 200)}
    assert len(server.store.events()) == 3
    assert sent(server, event(), learner="third-of-the-learners", name="late")[0] == 200
    assert sent(server, event(), learner="fourth-of-the-learners")[0] == 507


def test_the_doctor_says_what_waits(start, home):
    pytest.importorskip("anywidget")
    from interpwidgets.course.doctor import _workshop as examined

    with start() as server:
        workshop.join(address(server), "quiet heron")
        assert examined().good
    checked(1)
    found = examined()
    assert not found.good
    assert "1 waits. The last attempt failed" in found.said
