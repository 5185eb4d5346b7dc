"""The protocol that every view shares: requests are answered, settings are checked, what was packed is kept."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from io import StringIO

import numpy as np
import pytest
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st
from views import oracles

import interpwidgets as iw
from interpwidgets.views import view as view_module
from interpwidgets.views.tile import Tile
from interpwidgets.views.view import View, key_of


class Squares(View):
    """A view whose tile `n` is n × n times n, and that counts how often it was asked."""

    _esm = "export default {}"
    size = traitlets.Int(3).tag(sync=True)

    def __init__(self, **traits):
        super().__init__(**traits)
        self.made, self.sent = [], []

    def tile(self, n):
        self.made.append(n)
        if n < 0:
            raise ValueError(f"no square has side {n}")
        return Tile(np.full((n, n), n, dtype=np.int32))

    def send(self, content, buffers=None):
        self.sent.append((content, buffers or []))

    def ask(self, *keys):
        self._answer({"tiles": list(keys)})
        return self.sent[-1]


GOOD = [key_of(n=n) for n in range(1, 5)]
BAD = [
    key_of(n=-1),
    key_of(m=3),
    "not json",
    "[1,2]",
    "null",
    "7",
    "",
    5,
    None,
    [1],
    {"n": 2},
    '{"n": "x"}',
    "{" * 5000,
]


@given(st.lists(st.sampled_from([*GOOD, *BAD]), max_size=12))
@settings(deadline=None, max_examples=60)
def test_every_request_is_answered_in_order_with_data_or_an_error(keys):
    content, buffers = Squares().ask(*keys)
    assert [answer["key"] for answer in content["tiles"]] == keys
    buffers = iter(buffers)
    for answer in content["tiles"]:
        if answer["key"] in GOOD:
            n = json.loads(answer["key"])["n"]
            assert answer["shape"] == [n, n]
            assert np.frombuffer(next(buffers), dtype="<i4").tolist() == [n] * n * n
        else:
            assert answer["error"]
            assert "shape" not in answer
    assert not list(buffers)
    json.dumps(content)  # it travels as JSON


@pytest.mark.parametrize("content", [{}, {"tiles": []}, {"other": 1}, {"tiles": None}, {"tiles": 5}, {"tiles": "ab"}])
def test_no_message_whatever_it_holds_stops_a_view(content):
    view = Squares()
    view._answer(content)
    (answer, buffers), *_ = view.sent
    assert all("error" in entry for entry in answer["tiles"])
    assert buffers == []


def test_errors_are_named():
    content, _ = Squares().ask(key_of(n=-2))
    assert content["tiles"][0]["error"] == "ValueError: no square has side -2"


def test_a_tile_is_made_once_and_forgotten_when_the_cache_is_full(monkeypatch):
    view = Squares()
    assert view.packed(GOOD[1]) == view.packed(GOOD[1])
    assert view.made == [2]
    monkeypatch.setattr(view_module, "_CACHE_BYTES", 4 * (9 + 16))
    view.ask(GOOD[2], GOOD[3])  # 3 and 4 fill it: 2 was used longest ago
    view.ask(GOOD[2])
    assert view.made == [2, 3, 4]
    view.ask(GOOD[1])  # pushes out 4, used before 3
    assert view.made == [2, 3, 4, 2]
    view.ask(GOOD[2], GOOD[3])
    assert view.made == [2, 3, 4, 2, 4]


def test_settings_are_checked_by_name():
    assert Squares.settings() == ["size", "title"]
    assert Squares(size=4).size == 4
    with pytest.raises(TypeError, match=r"Squares has no setting 'sise'\. It has: size, title\."):
        Squares(sise=4)
    with pytest.raises(TypeError, match=r"AttentionView has no setting 'colour'\. It has: .*colour_range.*query"):
        iw.AttentionView(np.ones((1, 1, 1, 1)), colour="red")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ({"what": "rows", "layer": 1, "head": "mean"}, '{"what":"rows","layer":1,"head":"mean"}'),
        ({"name": "préfix → ☃", "region": [1, 2]}, '{"name":"préfix → ☃","region":[1,2]}'),
        ({"name": 'a"b\\c\n'}, '{"name":"a\\"b\\\\c\\n"}'),
    ],
)
def test_a_key_is_written_as_the_page_writes_it(key, text):
    """The texts are what `JSON.stringify` makes of these objects."""
    assert key_of(**key) == text


def test_eight_threads_get_the_answers_of_one():
    weights = oracles.pattern(np.random.default_rng(), 3, 4, 40, 40, causal=True)
    view = iw.AttentionView(weights, weights[:, :, :30, :30], compare=1)

    def keys(view):
        for what in ("mean", "max", "rollout", 0, 3):
            for minus in (-1, 1):
                yield key_of(what="rows", prompt=0, minus=minus, layer=2, head=what, band=0)
                yield key_of(what="atlas", prompt=0, minus=minus, pooling="max")
                yield key_of(what="scores", prompt=0, minus=minus, name="induction")

    expected = [view.packed(key) for key in keys(view)]
    fresh = iw.AttentionView(weights, weights[:, :, :30, :30])
    fresh._cache.clear()
    start = threading.Barrier(8)

    def ask(i):
        start.wait()
        order = list(enumerate(keys(fresh)))
        return {n: fresh.packed(key) for n, key in order[i:] + order[:i]}

    with ThreadPoolExecutor(8) as pool:
        for answers in pool.map(ask, range(8)):
            assert [answers[n] for n in range(len(expected))] == expected


def test_other_data_are_another_version_and_nothing_old_is_answered():
    view = Squares()
    old, _ = view.ask(GOOD[1])
    view.made.clear()
    view.renew([GOOD[2]])
    new, _ = view.ask(GOOD[1])
    assert view.made == [3, 2]  # made again, none from what was kept
    assert (old["version"], new["version"], view._version) == (0, 1, 1)
    assert [entry["key"] for entry in view._opening] == [GOOD[2]]


def test_a_tile_made_while_the_data_changed_is_not_kept():
    class Slow(Squares):
        def tile(self, n):
            tile = super().tile(n)
            if len(self.made) == 1:
                self.renew()
            return tile

    view = Slow()
    view.packed(GOOD[1])
    view.packed(GOOD[1])
    assert view.made == [2, 2]


def test_what_cannot_be_had_is_left_out_of_a_page(tmp_path):
    class Partly(Squares):
        _page = "squares"

        def tile(self, n):
            if n == 2:
                raise iw.InputError("not that one")
            return super().tile(n)

        def stored_keys(self):
            return GOOD[:3]

    state = Partly().page_state(max_mb=1)
    assert [entry["key"] for entry in state["_opening"]] == [GOOD[0], GOOD[2]]


def test_a_view_in_a_terminal_is_its_table():
    class Lines(Squares):
        def table(self):
            return ["token", "weight"], [["␣the", "0.5"], ["x", "0.25"]]

    assert str(Lines()) == "Lines()\ntoken  weight\n␣the   0.5\nx      0.25"
    assert str(Squares()) == "Squares()"
    rich = pytest.importorskip("rich.console")
    console = rich.Console(width=60, record=True, file=StringIO())
    console.print(Lines())
    assert "0.25" in console.export_text()


def test_a_view_without_a_picture_says_what_it_is():
    assert repr(Squares()) == "Squares()"
    assert Squares().describe() == "Squares()"
