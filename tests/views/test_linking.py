"""Linked views agree, also where one cannot follow; and a dashboard is its views, linked."""

import json

import numpy as np
import pytest
from views import oracles
from views.test_page import Page

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.views import AttentionView

RNG = np.random.default_rng()


def attention(layers=3, heads=4, size=6):
    return AttentionView(oracles.pattern(RNG, layers, heads, size, size))


def test_linked_views_share_what_both_have():
    a, b, c = attention(), attention(), attention()
    a.layer, a.query = 2, 4
    iw.link(a, b, c)
    assert (b.layer, b.query, c.query) == (2, 4, 4)
    b.head = 3
    c.query = None
    assert (a.head, c.head, a.query, b.query) == (3, 3, None, None)


def test_a_link_of_some_leaves_the_rest():
    a, b = attention(), attention()
    iw.link(a, b, on=["layer"])
    a.layer, a.head = 1, 2
    assert (b.layer, b.head) == (1, 0)


def test_traits_of_other_names_can_be_linked():
    a, b = attention(), attention()
    iw.link(a, b, on=[("query", "key")])
    a.query = 3
    assert (b.key, b.query) == (3, None)
    b.key = 1
    assert a.query == 1


def test_a_view_without_that_layer_stays_where_it_is_and_others_follow():
    large, small, other = attention(layers=5), attention(layers=2), attention(layers=5)
    iw.link(large, small, other)
    large.layer = 4
    assert (small.layer, other.layer) == (0, 4)
    large.layer = 1
    assert (small.layer, other.layer) == (1, 1)


def test_unlinked_views_go_their_own_way():
    a, b = attention(), attention()
    link = iw.link(a, b)
    assert "AttentionView.query" in repr(link)
    link.unlink()
    a.layer = 2
    assert b.layer == 0
    assert a.links == b.links == []


@pytest.mark.parametrize(
    ("views", "on", "said"),
    [
        (1, None, "two views or more"),
        (2, ["feature"], "do not share 'feature'.*AttentionView has prompt, layer, head, "),
        (2, [("layer",)], "a trait for each of the 2 views"),
    ],
)
def test_what_cannot_be_linked_is_refused(views, on, said):
    with pytest.raises(InputError, match=said):
        iw.link(*[attention() for _ in range(views)], on=on)


def test_something_that_is_no_view_is_refused():
    with pytest.raises(InputError, match="got AttentionView, int"):
        iw.link(attention(), 3)


def test_a_dashboard_links_its_views_and_saves_them_linked(tmp_path):
    a, b, c = attention(), attention(), attention()
    board = iw.Dashboard([a, [b, c]], title="Three <b>")
    a.layer = 2
    assert (b.layer, c.layer) == (2, 2)
    page = Page(board.save_html(tmp_path / "board.html"))
    assert len(page.data["views"]) == 3
    groups = {tuple(trait for _, trait in group): [place for place, _ in group] for group in page.data["links"]}
    assert groups["layer", "layer", "layer"] == [0, 1, 2]
    rows = [dict(attrs).get("class") for tag, attrs in page.elements if tag == "div"]
    assert rows.count("iw-beside") == 1
    assert "Three <b>" in "".join(page.text)
    assert "b" not in [tag for tag, _ in page.elements]


def test_a_page_links_only_what_is_on_it(tmp_path):
    a, b, c = attention(), attention(), attention()
    iw.link(a, b, c, on=["layer"])
    page = Page(iw.save_page(tmp_path / "page.html", "two", [c, a]))
    assert page.data["links"] == [[[1, "layer"], [0, "layer"]]]
    alone = Page(iw.save_page(tmp_path / "alone.html", "one", [a]))
    assert alone.data["links"] == []


def test_a_dashboard_without_links(tmp_path):
    a, b = attention(), attention()
    assert iw.Dashboard([[a, b]], linked=False).link is None
    a.layer = 1
    assert b.layer == 0


@pytest.mark.parametrize(
    ("rows", "said"), [([], "needs views"), ([["text"]], "made of views; got str"), ([3], "made of")]
)
def test_a_dashboard_of_something_else_is_refused(rows, said):
    with pytest.raises(InputError, match=said):
        iw.Dashboard(rows)


def test_the_same_view_in_two_links_is_moved_once_by_each():
    a, b, c = attention(), attention(), attention()
    iw.link(a, b, on=["layer"])
    iw.link(b, c, on=["layer"])
    moved = []
    c.observe(lambda change: moved.append(change["new"]), "layer")
    a.layer = 2
    assert moved == [2]
    assert json.loads(json.dumps(moved)) == [c.layer]


def test_a_feature_of_a_graph_is_shown_by_the_store_of_its_layer(tmp_path):
    pytest.importorskip("duckdb")
    from interpwidgets.features.synthetic import synthetic_store

    store = synthetic_store(tmp_path / "store", 50, n_tokens=2000, progress=False)
    layer = store.about["dictionary"]["layer"]
    names = [f"L{layer} feature 31", f"L{layer + 1} feature 7", f"L{layer}H2", f"L{layer} feature 99"]
    graph = iw.Circuit(nodes=names, edges=[])
    circuit, features = iw.CircuitView(graph), iw.FeatureView(store, feature=5)
    iw.link(circuit, features)
    circuit.node = graph.nodes[0].id
    assert features.feature == 31
    for other in graph.nodes[1:]:  # of another layer, no feature, one that the store does not have
        circuit.node = other.id
        assert features.feature == 31
