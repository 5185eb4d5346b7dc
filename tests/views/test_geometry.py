"""The geometry view: what it says of vectors holds in all their dimensions."""

import json
import math

import numpy as np
import pytest
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st
from views.test_page import Page
from views.test_tile import unpack

import interpwidgets as iw
from interpwidgets.errors import InputError
from interpwidgets.views import GeometryView, directions, geometry
from interpwidgets.views.geometry_picture import projected
from interpwidgets.views.view import key_of

RNG = np.random.default_rng()
HOSTILE = ["<img src=x onerror=alert(1)>", "</script>", "\u202eevil", "a\nb", "d"]


def ask(view, **key):
    return unpack(*view.packed(key_of(**key)))


def told(view, **key):
    return json.loads(bytes(ask(view, **key)).decode())


def polygon(corners):
    angles = 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


@pytest.mark.parametrize("corners", [2, 3, 4, 5, 7])
def test_a_regular_polygon_shares_two_dimensions_evenly(corners):
    room = directions.dimensionality(polygon(corners).astype(np.float32))
    np.testing.assert_allclose(room, 0.5 if corners == 2 else 2 / corners, atol=1e-6)


@given(st.integers(1, 9), st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_dimensionality_is_the_formula(items, dim, seed):
    w = np.random.default_rng(seed).normal(size=(items, dim)).astype(np.float32)
    w[0] *= seed % 2  # sometimes nothing
    room = directions.dimensionality(w)
    for i in range(items):
        own = sum(float(x) ** 2 for x in w[i])
        shared = sum(float(np.dot(w[i].astype(float), w[j].astype(float))) ** 2 for j in range(items))
        truth = 0 if own == 0 else own / (shared / own)
        assert room[i] == pytest.approx(truth, rel=1e-5, abs=1e-9)
    assert room.sum() <= dim + 1e-6  # there is no more room than dimensions


@pytest.mark.parametrize(("items", "dim"), [(40, 5), (5, 40), (3, 3), (1, 4), (1100, 1050)])
def test_principal_axes_are_those_of_the_singular_values(items, dim):
    x = RNG.normal(size=(items, dim)) * np.linspace(3, 0.1, dim)
    if dim > 1024:  # a few directions above the noise, as iteration has to find them
        x = 0.01 * x + RNG.normal(size=(items, 3)) * [9, 6, 3] @ np.linalg.qr(RNG.normal(size=(dim, 3)))[0].T
    axes, share = directions.principal(x.astype(np.float32), 3)
    _, values, truth = np.linalg.svd(x - x.mean(0), full_matrices=False)
    count = min(3, items - 1, dim)
    np.testing.assert_allclose(axes.T @ axes, np.eye(axes.shape[1]), atol=1e-8)
    np.testing.assert_allclose(share[:count], (values**2 / max(1e-30, (values**2).sum()))[:count], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(np.abs((axes[:, :count] * truth[:count].T).sum(0)), 1, atol=1e-3)
    assert np.isfinite(share).all()


def test_two_dimensions_are_shown_as_they_are():
    vectors = RNG.normal(size=(4, 7, 2)).astype(np.float32)
    view = GeometryView(vectors)
    assert (view.shape, view.variance) == ([4, 7, 2], [])
    for step in range(4):
        np.testing.assert_array_equal(ask(view, what="points", step=step, axes=2, block=0), vectors[step])
    low, high = np.array(view.bounds).T
    every = np.concatenate([vectors.reshape(-1, 2), np.zeros((1, 2))])
    np.testing.assert_allclose([low, high], [every.min(0), every.max(0)], rtol=1e-6)
    assert "all there is" in view.explained(2)
    line = GeometryView(RNG.normal(size=(3, 1)))
    np.testing.assert_array_equal(ask(line, what="points", step=0, axes=2, block=0)[:, 1], 0)
    line.picture().png()


def test_more_dimensions_are_projected_on_the_same_axes_at_every_step():
    vectors = RNG.normal(size=(3, 20, 6)).astype(np.float32) * [5, 3, 1, 0.1, 0.1, 0.1]
    view = GeometryView(vectors)
    axes, share = directions.principal(vectors.reshape(-1, 6).astype(np.float32), 3)
    for step in range(3):
        truth = vectors[step] @ axes
        np.testing.assert_allclose(ask(view, what="points", step=step, axes=3, block=0), truth, atol=1e-4)
        np.testing.assert_allclose(ask(view, what="points", step=step, axes=2, block=0), truth[:, :2], atol=1e-4)
    assert f"2 of 6 dimensions, {100 * share[:2].sum():.1f} % of the variance" in view.describe()


def test_facts_cosines_and_neighbours_are_those_of_all_dimensions():
    vectors = RNG.normal(size=(30, 8)).astype(np.float32)
    vectors[3] = 0
    view = GeometryView(vectors, feature=5)
    facts = ask(view, what="facts", step=0, block=0)
    np.testing.assert_allclose(facts[:, 0], np.linalg.norm(vectors, axis=1), rtol=1e-5)
    cosine = ask(view, what="cosine", step=0, feature=None)
    for i, j in [(0, 1), (5, 9), (7, 7)]:
        a, b = vectors[i].astype(float), vectors[j].astype(float)
        assert cosine[i, j] == pytest.approx(a @ b / math.sqrt((a @ a) * (b @ b)), abs=1e-5)
    assert np.isnan(cosine[3]).all()
    near = told(view, what="near", step=0, feature=5)
    order = [i for i in np.argsort(-cosine[5]) if i not in (3, 5)]
    assert [i for i, _ in near] == [*order[:12], *order[-4:]]
    for i, value in near:
        assert value == pytest.approx(cosine[5, i], abs=1e-5)


def test_of_many_items_those_nearest_to_the_selected_are_compared():
    vectors = RNG.normal(size=(900, 5)).astype(np.float32)
    view = GeometryView(vectors, reading="cosine", feature=77)
    meta, data = view.packed(key_of(what="cosine", step=0, feature=77))
    assert meta["items"][0] == 77
    assert meta["shape"] == [geometry.COMPARED, geometry.COMPARED]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    truth = unit @ unit[77]
    assert set(meta["items"]) == set(np.argsort(-truth)[: geometry.COMPARED].tolist())
    np.testing.assert_allclose(unpack(meta, data)[0], truth[meta["items"]], atol=1e-5)


def test_many_items_travel_in_blocks_under_a_megabyte():
    vectors = RNG.normal(size=(120_000, 3)).astype(np.float32)
    view = GeometryView(vectors, values=np.arange(120_000))
    parts = [ask(view, what="points", step=0, axes=3, block=block) for block in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts), view.points(0, 3))
    values = [ask(view, what="values", block=block) for block in range(3)]
    np.testing.assert_array_equal(np.concatenate(values), np.arange(120_000))
    assert max(part.nbytes for part in parts) < 1e6


def test_a_pentagon_is_in_the_shipped_model():
    toys = iw.load("toy-superposition")
    steps = [0.0, 0.9]
    view = GeometryView([toys.W(features=5, hidden=2, sparsity=s).T for s in steps], steps=steps, step=1)
    assert view.steps == ["0", "0.9"]
    facts = ask(view, what="facts", step=1, block=0)
    np.testing.assert_allclose(facts[:, 1], toys.dimensionality(features=5, hidden=2, sparsity=0.9), atol=1e-4)
    angles = [math.degrees(math.acos(cosine)) for _, cosine in told(view, what="near", step=1, feature=2)]
    np.testing.assert_allclose(angles, [72, 72, 144, 144], atol=3)


def test_labels_groups_and_values():
    groups = ["a", "<b>", "a", "c", "a"]
    view = GeometryView(RNG.normal(size=(5, 4)), labels=HOSTILE, groups=groups, values={"count": [1, 2, np.nan, 4, 9]})
    labels = told(view, what="labels", chunk=0)["text"]
    assert labels == [HOSTILE[0], "</script>", "⟨U+202E⟩evil", "a↵b", "d"]
    assert view.group_names == ["a", "<b>", "c"]
    np.testing.assert_array_equal(ask(view, what="groups", block=0), [0, 1, 0, 2, 0])
    np.testing.assert_array_equal(ask(view, what="values", block=0), np.float32([1, 2, np.nan, 4, 9]))
    assert (view.valued, view.value_range) == ("count", [1, 9])
    with pytest.raises(InputError, match="came without groups"):
        GeometryView(np.eye(2)).tile(what="groups", block=0)


@pytest.mark.parametrize(
    ("vectors", "more", "said"),
    [
        (np.zeros(3), {}, r"Vectors must be \[item, dim\]"),
        (np.zeros((0, 3)), {}, "must not be empty"),
        ([[1, np.nan]], {}, "finite numbers; at item 0, dim 1"),
        ("abc", {}, "must be numbers"),
        ([np.eye(2), np.eye(3)], {}, "Every step must have the same items and dimensions"),
        (np.eye(3), {"labels": ["a"]}, "3 items need 3 labels; got 1"),
        (np.eye(3), {"groups": ["a"]}, "3 items need 3 groups; got 1"),
        (np.eye(3), {"values": [1]}, "item = 3"),
        (np.eye(3), {"values": {"a": [1, 2, 3], "b": [1, 2, 3]}}, "one name; got 2"),
        (np.eye(3), {"steps": [1, 2]}, "1 steps need 1 steps; got 2"),
    ],
)
def test_what_cannot_be_shown_is_refused(vectors, more, said):
    with pytest.raises(InputError, match=said):
        GeometryView(vectors, **more)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("step", 1, "step 1 does not exist: this view has step 0 to 0"),
        ("feature", 6, "feature 6 does not exist: this view has feature 0 to 5"),
        ("feature", -1, "feature -1 does not exist"),
        ("reading", "3d", "Vectors of 2 dimensions cannot be shown in 3d"),
        ("reading", "4d", "reading"),
        ("rotation", [1.0], r"must be \[turn, tilt\]"),
        ("rotation", [1.0, float("nan")], r"must be \[turn, tilt\]"),
    ],
)
def test_a_setting_out_of_range_is_refused(setting, value, said):
    view = GeometryView(RNG.normal(size=(6, 2)))
    before = getattr(view, setting)
    with pytest.raises(traitlets.TraitError, match=said):
        setattr(view, setting, value)
    assert getattr(view, setting) == before


def test_show_keeps_what_still_exists():
    view = GeometryView(RNG.normal(size=(3, 9, 4)), feature=8, step=2, reading="3d")
    view.show(RNG.normal(size=(4, 9, 5)))
    assert (view.feature, view.step, view.reading) == (8, 2, "3d")
    view.show(RNG.normal(size=(6, 2)))
    assert (view.feature, view.step, view.reading, view.shape) == (None, 0, "2d", [1, 6, 2])


def test_a_state_opens_the_same_view_again():
    vectors = RNG.normal(size=(2, 5, 4))
    view = GeometryView(vectors)
    view.feature, view.step, view.reading, view.rotation = 3, 1, "3d", [10.0, -40.0]
    assert GeometryView.from_state(view.state(), vectors)._settable() == view._settable()


def test_a_turn_is_a_rotation():
    points = RNG.normal(size=(20, 3)).astype(np.float32)
    turn, tilt = RNG.uniform(-180, 180), RNG.uniform(-90, 90)
    seen = projected(points, turn, tilt)
    np.testing.assert_allclose(np.linalg.norm(seen, axis=1), np.linalg.norm(points, axis=1), rtol=1e-4)
    np.testing.assert_allclose(projected(points, 0, 0), points, atol=1e-6)
    np.testing.assert_allclose(projected(np.float32([[0, 0, 1]]), 90, 0), [[1, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("reading", ["2d", "3d", "cosine"])
@pytest.mark.parametrize("kind", ["plain", "groups", "values", "many"])
def test_the_still_says_how_much_it_shows(reading, kind, tmp_path):
    items = 200 if kind == "many" else 5
    more = {"groups": {"groups": ["x", "y", "x", "y", "z"]}, "values": {"values": {"count": [-1, 2, np.nan, 3, 0]}}}
    labels = HOSTILE if items == 5 else None
    view = GeometryView(RNG.normal(size=(items, 6)), labels=labels, reading=reading, feature=1, **more.get(kind, {}))
    svg = view.save_svg(tmp_path / "still.svg").read_text()
    assert f"{items} vectors of 6 dimensions" in svg
    assert ("% of the variance" in svg) == (reading != "cosine")
    assert f"cosine with {view.labels[1]}".replace("<", "&lt;").replace(">", "&gt;") in svg
    assert "<img" not in svg
    assert ("count" in svg) == (kind == "values" and reading != "cosine")
    assert len(view.picture().png()) < 300_000


def test_the_table_is_lengths_and_rooms_or_the_neighbours_of_the_selected():
    vectors = polygon(5)
    view = GeometryView(vectors)
    headings, rows = view.table()
    assert headings == ["item", "length", "dimensionality"]
    assert rows == [[str(i), "1.0000", "0.4000"] for i in range(5)]
    view.feature = 0
    headings, rows = view.table()
    assert headings[-1] == "angle"
    assert [row[-1] for row in rows] == ["0.0°", "72.0°", "72.0°", "144.0°", "144.0°"]
    assert repr(view) == "GeometryView(5 items, 2 dimensions)"
    assert "dimensionality 0.400" in view.describe()


def test_a_page_holds_every_step_and_the_neighbours_of_a_few_items(tmp_path):
    view = GeometryView(RNG.normal(size=(3, 5, 4)), labels=HOSTILE)
    page = Page(view.save_html(tmp_path / "page.html"))
    keys = {entry["key"] for entry in page.data["views"][0]["state"]["_opening"]}
    assert {key_of(what="points", step=step, axes=axes, block=0) for step in range(3) for axes in (2, 3)} <= keys
    assert {key_of(what="near", step=step, feature=item) for step in range(3) for item in range(5)} <= keys
    assert {key_of(what="cosine", step=step, feature=None) for step in range(3)} <= keys
    assert "<img src=x" not in view.still()


def test_a_dictionarys_selected_feature_is_the_linked_views():
    one, other = GeometryView(RNG.normal(size=(9, 3))), GeometryView(RNG.normal(size=(2, 9, 2)))
    iw.link(one, other)
    other.feature = 7
    assert one.feature == 7
