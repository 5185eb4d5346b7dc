"""A labeler over HTTP, against a server in this process: what it asks, what it reads, what it spends."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from autointerp.planted import PARIS, Planted, is_

import interpwidgets as iw
from interpwidgets.autointerp import Budget, ChatLabeler, Judge, Labeler, Text, evidence, scores
from interpwidgets.autointerp.prompts import read_labels, read_numbers
from interpwidgets.errors import BudgetError, InputError, InterpError
from interpwidgets.tokens import Tokens


class Server(HTTPServer):
    """Answers with what `reply` makes of a prompt; a number is a status."""

    reply: Callable[[str], Any]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.reply = lambda prompt: '["a label"]'
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(question)
        self.server.keys.append(self.headers["Authorization"])
        said = self.server.reply(question["messages"][0]["content"])
        if isinstance(said, int):
            body, status = {"error": {"message": f"no: {said}"}}, said
        else:
            usage = {"prompt_tokens": 100, "completion_tokens": 10}
            body, status = {"choices": [{"message": {"content": said}}], "usage": usage}, 200
        data = json.dumps(body).encode()
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "7")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()


def knows_paris(prompt: str) -> str:
    """A model that has understood: it reads the prompt, and answers of ␣Paris."""
    if "What they have" in prompt or "Say what" in prompt:
        return 'Let me see [1].\n["the city of Paris", "a city"]'
    lines = re.findall(r"^\d+\. (.*)$", prompt, flags=re.M)
    if "The tokens of a text" in prompt:
        return json.dumps([10 * (line == "␣Paris") for line in lines])
    if "the tokens between" in prompt:
        return json.dumps([int(all(word == "␣Paris" for word in re.findall("«(.*?)»", line))) for line in lines])
    return f"Here: {json.dumps([int('␣Paris' in line.split()) for line in lines])}"


def test_a_label_from_end_to_end(server: Server, rng: np.random.Generator) -> None:
    server.reply = knows_paris
    labeler = ChatLabeler(server.url, "m", key="sk-secret", prices=(1.0, 2.0))
    assert isinstance(labeler, Labeler)
    assert isinstance(labeler, Judge)
    here = evidence(Planted(rng, [is_(PARIS)]), 0, most=12)
    assert labeler.label(here.train) == ["the city of Paris", "a city"]
    found = scores(labeler, "the city of Paris", here)
    assert all(found[name].value == 1 for name in ("detection", "fuzzing", "detection_auc", "fuzzing_auc"))
    assert found["correlation"].value > 0.8
    assert set(server.keys) == {"Bearer sk-secret"}
    assert "sk-secret" not in repr(labeler)
    assert labeler.spent.calls == len(server.asked)
    assert labeler.spent.cost == pytest.approx((100 * 1.0 + 10 * 2.0) * len(server.asked) / 1e6)
    assert labeler.unread == 0


def test_a_held_out_example_is_never_in_the_prompt_of_a_label(server: Server, rng: np.random.Generator) -> None:
    here = evidence(Planted(rng, [is_(PARIS)]), 0)
    ChatLabeler(server.url, "m").label(here.train)
    prompt = server.asked[0]["messages"][0]["content"]
    assert any(snippet.marked() in prompt for snippet in here.train)
    assert not any(snippet.marked() in prompt or " ".join(snippet.text.words) in prompt for snippet in here.test)


def test_answers_are_kept_by_content(server: Server, tmp_path: Path) -> None:
    texts = [Text(Tokens((" a", " b"))), Text(Tokens((" c",)))]
    server.reply = lambda prompt: "[1, 0]"
    for _ in range(2):
        assert ChatLabeler(server.url, "m", key="sk-1", cache=tmp_path).judge("x", texts).tolist() == [1, 0]
    assert len(server.asked) == 1
    ChatLabeler(server.url, "m", cache=tmp_path).judge("y", texts)
    ChatLabeler(server.url, "other", cache=tmp_path).judge("x", texts)
    assert len(server.asked) == 3
    assert not any(b"sk-1" in path.read_bytes() or "sk-1" in path.name for path in tmp_path.iterdir())
    for path in tmp_path.iterdir():
        path.write_bytes(b"{")  # cut off: asked again
    assert ChatLabeler(server.url, "m", cache=tmp_path).judge("x", texts).tolist() == [1, 0]
    assert len(server.asked) == 4


@pytest.mark.parametrize(("budget", "calls"), [(Budget(calls=2), 2), (Budget(tokens=150), 2), (Budget(cost=0.0001), 1)])
def test_a_budget_is_kept(server: Server, budget: Budget, calls: int) -> None:
    server.reply = lambda prompt: "[0.5]"
    labeler = ChatLabeler(server.url, "m", budget=budget, prices=(1.0, 1.0))
    for number in range(calls):
        labeler.judge(f"label {number}", [Text(Tokens(("a",)))])
    with pytest.raises(BudgetError, match=r"The budget of .* is used up"):
        labeler.judge("one more", [Text(Tokens(("a",)))])
    assert labeler.judge("label 0", [Text(Tokens(("a",)))]).tolist() == [0.5]  # known: free
    assert len(server.asked) == calls


def test_what_passes_is_tried_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(ChatLabeler, "_sleep", staticmethod(waited.append))
    replies = iter([429, 503, 500, "[1]"])
    server.reply = lambda prompt: next(replies)
    assert ChatLabeler(server.url, "m").judge("x", [Text(Tokens(("a",)))]).tolist() == [1]
    assert waited == [7.0, 2.0, 4.0]
    server.reply = lambda prompt: 503
    with pytest.raises(InterpError, match="gave no answer in 3 tries; the last time: 503: no: 503"):
        ChatLabeler(server.url, "m", retries=2).judge("x", [Text(Tokens(("a",)))])


def test_a_refusal_is_said_at_once(server: Server) -> None:
    server.reply = lambda prompt: 401
    with pytest.raises(InputError, match=r"refuses 'm' \(401\): no: 401"):
        ChatLabeler(server.url, "m", key="sk-secret").label([])
    assert len(server.asked) == 1


def test_what_cannot_be_read_is_not_known(server: Server) -> None:
    server.reply = lambda prompt: "I would rather not."
    labeler = ChatLabeler(server.url, "m")
    assert labeler.judge("x", [Text(Tokens(("a",)))] * 3).tolist() == [0.5] * 3
    assert (len(server.asked), labeler.unread) == (2, 1)


def test_a_dry_run_calls_nobody(server: Server, store: iw.FeatureStore) -> None:
    labeler = ChatLabeler(server.url, "m", prices=(1.0, 2.0))
    store.set_label(11, "before")
    plan = store.label(labeler, features=[11, 12, 13], dry_run=True, progress=False)
    assert not server.asked
    assert store.label_of(11).text == "before"
    assert plan.spent.calls > 50
    assert plan.spent.cost == pytest.approx((plan.spent.read + 2 * plan.spent.written) / 1e6)
    assert re.match(r"m would take about [\d,]+ calls, [\d,]+ tokens read, [\d,]+ written, [\d.]+ at these", repr(plan))
    assert labeler.spent.calls == 0
    server.reply = lambda prompt: (
        "[" + ", ".join(["1"] * len(re.findall(r"^\d+\. ", prompt.split("said to be")[-1], re.M))) + "]"
    )
    store.label(labeler, features=[11, 12, 13], progress=False)
    assert labeler.spent.calls <= 2 * plan.spent.calls
    assert repr(store.label(features=[11], dry_run=True)) == "statistics: no calls, no cost."


def test_labels_are_cleaned() -> None:
    said = '["<img src=x onerror=alert(1)>", "a\\nb\\u0007  c", "a b c", "", "%s"]' % ("x" * 500)
    assert read_labels(said, 5) == ["<img src=x onerror=alert(1)>", "a b c", "x" * 200]
    assert read_labels("- names of cities\nand more", 3) == ["names of cities"]
    assert read_labels("", 3) == []


def test_numbers_are_read_or_refused() -> None:
    assert read_numbers("so [0, 5, 20]!", 3, 10).tolist() == [0, 0.5, 1]
    assert read_numbers("[1, 2]", 3) is None
    assert read_numbers('["a"]', 1) is None
    assert read_numbers("[NaN]", 1) is None
    assert read_numbers("[[1]]", 1) is not None


@pytest.mark.parametrize("endpoint", ["localhost:8000", "file:///etc/passwd", "", "http://"])
def test_an_endpoint_is_an_address(endpoint: str) -> None:
    with pytest.raises(InputError, match="An endpoint is an address"):
        ChatLabeler(endpoint, "m")


def test_a_key_does_not_belong_in_the_address() -> None:
    with pytest.raises(InputError, match="Give the key as key="):
        ChatLabeler("http://me:secret@localhost/v1", "m")
    with pytest.raises(InputError, match="A budget is a number from 0 on"):
        Budget(calls=-1)
