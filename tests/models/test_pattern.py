"""Blocks of patterns against loops in float64, and the shape of what views ask."""

import threading
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import interpwidgets as iw
from interpwidgets.models.mask import Mask
from interpwidgets.models.pattern import LayerAttention

torch.set_num_threads(1)


def slow_pattern(q: NDArray[Any], k: NDArray[Any], scaling: float, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The definition, one weight at a time: q [query, d_head], k [key, d_head], allowed [query, key]."""
    pattern = np.zeros(allowed.shape)
    for row, query in enumerate(q.astype(np.float64)):
        seen = [key for key in range(len(k)) if allowed[row, key]]
        scores = [scaling * sum(a * b for a, b in zip(query, k[key].astype(np.float64), strict=True)) for key in seen]
        weights = [np.exp(score - max(scores)) for score in scores]
        pattern[row, seen] = np.array(weights) / sum(weights)
    return pattern


def draw(seed: int, layers: int, size: int, heads: int, kv_heads: int, spread: float = 1.0) -> Any:
    rng = np.random.default_rng(seed)
    q = spread * rng.standard_normal((layers, size, heads, 4), dtype=np.float32)
    k = spread * rng.standard_normal((layers, size, kv_heads, 4), dtype=np.float32)
    return q, k


@settings(max_examples=60, deadline=None)
@given(data=st.data(), size=st.integers(1, 40), causal=st.booleans(), spread=st.sampled_from([0.1, 1.0, 6.0]))
def test_any_block_in_any_order_equals_the_loop(data: st.DataObject, size: int, causal: bool, spread: float) -> None:
    q, k = draw(data.draw(st.integers(0, 99)), 2, size, 4, data.draw(st.sampled_from([1, 2, 4])), spread)
    rec = iw.Recording.from_qk(q, k, causal=causal, scaling=0.7)
    source = rec.attention()
    allowed = np.tri(size, dtype=bool) if causal else np.ones((size, size), dtype=bool)
    assert source.causal is causal
    for _ in range(4):
        layer, head = data.draw(st.integers(0, 1)), data.draw(st.integers(0, 3))
        queries = np.array(data.draw(st.lists(st.integers(0, size - 1), max_size=12)), dtype=np.int64)
        if data.draw(st.booleans()):
            queries = np.arange(*sorted(data.draw(st.tuples(*[st.integers(0, size)] * 2))))
        start, stop = data.draw(st.tuples(st.integers(0, size), st.integers(0, size)))
        truth = slow_pattern(q[layer, :, head], k[layer, :, head // (4 // k.shape[2])], 0.7, allowed)
        block = source.block(layer, head, queries, slice(start, stop))
        assert block.dtype == np.float32
        assert block.shape == (len(queries), max(stop - start, 0))
        # Scores of a hundred are themselves only known to 1e-5 in float32, which is the error of the weights.
        np.testing.assert_allclose(block, truth[queries][:, start:stop], atol=1e-5 if spread <= 1 else 1e-4)
        if causal:
            assert not block[np.arange(size)[start:stop] > queries[:, None]].any()


@settings(max_examples=60, deadline=None)
@given(data=st.data(), size=st.integers(1, 40), causal=st.booleans(), strip=st.integers(1, 9))
def test_pooled_is_the_block_reduced(data: st.DataObject, size: int, causal: bool, strip: int) -> None:
    """Also where strips are short and no multiple of a run, and where rows are picked or keys are a part."""
    source = iw.Recording.from_qk(*draw(data.draw(st.integers(0, 99)), 2, size, 4, 2), causal=causal).attention()
    run = data.draw(st.integers(1, size))
    queries = np.arange(size - size % run)
    if data.draw(st.booleans()):
        queries = np.random.default_rng(strip).permutation(size)[: len(queries)]
    start, stop = sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size))))
    keys = data.draw(st.sampled_from([slice(start, stop), slice(0, size), slice(0, int(queries.max()) + 1)]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interpwidgets.models.pattern._STRIP", 0)
        patch.setattr("interpwidgets.models.pattern._FEWEST_ROWS", strip)
        top, total = source.pooled(1, 3, queries, keys, run)
    runs = source.block(1, 3, queries, keys).reshape(len(queries) // run, run, -1)
    np.testing.assert_allclose(top, runs.max(axis=1), atol=1e-6)
    np.testing.assert_allclose(total, runs.sum(axis=1), atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), size=st.integers(1, 24), per_head=st.booleans(), within=st.booleans())
def test_a_mask_of_any_shape(seed: int, size: int, per_head: bool, within: bool) -> None:
    """What no short description fits is kept, and obeyed."""
    rng = np.random.default_rng(seed)
    allowed = rng.random((2, 4 if per_head else 1, size, size)) < 0.5
    allowed |= np.eye(size, dtype=bool)
    if within:
        allowed &= np.tri(size, dtype=bool)
    mask = Mask.of(torch.from_numpy(allowed), lengths=[size, size], heads=4)
    assert mask.causal == (within or not np.triu(allowed, 1).any())
    q, k = draw(seed, 2, size, 4, 2)
    layer = LayerAttention(
        torch.from_numpy(q).transpose(1, 2), torch.from_numpy(k).transpose(1, 2), 0.5, mask
    )  # the first axis stands for prompts here
    for prompt in range(2):
        for head in range(4):
            sheet = allowed[prompt, head if per_head else 0]
            truth = slow_pattern(q[prompt, :, head], k[prompt, :, head // 2], 0.5, sheet)
            rows = rng.permutation(size)
            np.testing.assert_allclose(layer.block(prompt, head, size, rows, 0, size), truth[rows], atol=1e-5)
            np.testing.assert_allclose(
                layer.block(prompt, head, size, np.arange(size), size // 3, size), truth[:, size // 3 :], atol=1e-5
            )


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=3), causal=st.booleans(), additive=st.booleans())
def test_common_masks_are_kept_in_a_word(lengths: list[int], causal: bool, additive: bool) -> None:
    size = max(*lengths, 2)
    allowed = torch.ones(len(lengths), 1, size, size, dtype=torch.bool)
    if causal:
        allowed = allowed.tril()
    for row, length in enumerate(lengths):
        allowed[row, :, :, length:] = False
    given_mask = torch.where(allowed, 0.0, torch.finfo(torch.float32).min) if additive else allowed
    mask = Mask.of(given_mask, lengths=lengths, heads=4)
    assert mask.allowed is None
    assert mask.causal == (causal or max(lengths) == 1)  # one token alone: both are the same


def test_a_mask_too_large_to_keep_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interpwidgets.models.mask._LARGEST", 15)
    window = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril().triu(-1)
    with pytest.raises(iw.InputError, match="16 entries; at most 15"):
        Mask.of(window, lengths=[4], heads=1)
    assert Mask.of(window, lengths=[2], heads=1).causal  # what fits a short description is not kept


def test_a_bias_is_not_a_mask() -> None:
    with pytest.raises(iw.InputError, match="bias"):
        Mask.of(torch.randn(1, 1, 3, 3), lengths=[3], heads=1)
    with pytest.raises(iw.InputError, match="shape"):
        Mask.of(torch.ones(3, 3, dtype=torch.bool), lengths=[3], heads=1)


def test_long_rows_in_several_strips() -> None:
    """Enough rows and keys that one block takes many strips, and tiles ask for rows nobody has seen."""
    size = 3000
    q, k = draw(1, 1, size, 1, 1)
    source = iw.Recording.from_qk(q, k).attention()
    scores = 0.5 * q[0, :, 0].astype(np.float64) @ k[0, :, 0].astype(np.float64).T
    scores[~np.tri(size, dtype=bool)] = -np.inf
    truth = np.exp(scores - scores.max(1, keepdims=True))
    truth /= truth.sum(1, keepdims=True)
    tile = source.block(0, 0, np.arange(1100, 2900), slice(900, 1200))
    np.testing.assert_allclose(tile, truth[1100:2900, 900:1200], atol=1e-6)
    np.testing.assert_allclose(source.block(0, 0, np.arange(size), slice(0, size)), truth, atol=1e-6)
    rows = np.random.default_rng(0).integers(0, size, 700)
    np.testing.assert_allclose(source.block(0, 0, rows, slice(0, size)), truth[rows], atol=1e-6)


def test_the_same_question_has_the_same_answer() -> None:
    q, k = draw(3, 1, 300, 2, 1)
    source = iw.Recording.from_qk(q, k).attention()
    whole, part = (0, 1, np.arange(300), slice(0, 300)), (0, 1, np.array([7, 250, 30]), slice(3, 40))
    first = source.block(*whole), source.block(*part)
    source.block(0, 1, np.arange(100, 200), slice(50, 60))
    assert np.array_equal(source.block(*whole), first[0])
    assert np.array_equal(source.block(*part), first[1])


def test_blocks_from_many_threads_with_gradients_on() -> None:
    q, k = draw(4, 1, 120, 2, 2)
    q, k = torch.from_numpy(q).requires_grad_(), torch.from_numpy(k).requires_grad_()
    source = iw.Recording.from_qk(q, k).attention()
    truth = iw.Recording.from_qk(q, k)["pattern", 0][0].numpy()
    wrong = []

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(20):
            rows, start = rng.integers(0, 120, 9), int(rng.integers(0, 100))
            head = int(rng.integers(0, 2))
            block = source.block(0, head, rows, slice(start, start + 20))
            if not np.allclose(block, truth[head, rows, start : start + 20], atol=1e-6):
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("causal", [True, False])
def test_extreme_scores_stay_numbers(causal: bool) -> None:
    q, k = draw(5, 1, 30, 1, 1, spread=40.0)
    pattern = iw.Recording.from_qk(q, k, causal=causal)["pattern", 0][0, 0]
    assert pattern.isfinite().all()
    torch.testing.assert_close(pattern.sum(-1), torch.ones(30))


def test_a_part_of_a_pattern_by_numbers_and_ranges() -> None:
    q, k = draw(6, 2, 12, 2, 2)
    rec = iw.Recording.from_qk(q, k, tokens=[f" t{i}" for i in range(12)])
    full = rec["pattern", 1][0, 1]
    for queries, keys in [
        (None, None),
        (3, None),
        (None, 2),
        (-1, -1),
        (slice(2, 9, 2), slice(None, 5)),
        ([5, 1, 5], [0, 3]),
        (slice(4, 4), slice(0, 3)),
    ]:
        rows, columns = (slice(None) if part is None else part for part in (queries, keys))
        expected = full[rows][..., columns]
        part = rec.pattern(1, 1, queries=queries, keys=keys)
        assert part.shape == expected.shape
        torch.testing.assert_close(part, expected, atol=1e-6, rtol=0)
    assert rec.attention().query_tokens[3] == "␣t3"
    assert len(rec) == 1


@pytest.mark.parametrize("kind", ["numpy", "readonly", "torch", "float64", "half", "mapped"])
def test_anybodys_q_and_k(kind: str, tmp_path: Any) -> None:
    q, k = draw(7, 1, 9, 2, 2)
    truth = slow_pattern(q[0, :, 1], k[0, :, 1], 0.5, np.tri(9, dtype=bool))
    if kind == "readonly":
        q.flags.writeable = False
    elif kind == "torch":
        q, k = torch.from_numpy(q), torch.from_numpy(k)
    elif kind == "float64":
        q, k = q.astype(np.float64), k.astype(np.float64)
    elif kind == "half":
        q, k = torch.from_numpy(q).bfloat16(), torch.from_numpy(k).bfloat16()
    elif kind == "mapped":
        np.save(tmp_path / "q.npy", q)
        q = np.load(tmp_path / "q.npy", mmap_mode="r")
    pattern = iw.Recording.from_qk(q, k).pattern(0, 1)
    assert pattern.dtype == torch.float32
    np.testing.assert_allclose(pattern, truth, atol=2e-2 if kind == "half" else 1e-5)


def test_q_and_k_are_not_copied() -> None:
    q, k = draw(8, 1, 5, 1, 1)
    rec = iw.Recording.from_qk(q, k)
    assert rec["q", 0].data_ptr() == q.ctypes.data


@pytest.mark.parametrize(
    ("q", "k", "options", "message"),
    [
        (np.ones((2, 3, 4)), np.ones((2, 3, 4)), {}, r"q is \[layer, pos, head, d_head\]"),
        (np.ones((1, 3, 2, 4), dtype=int), np.ones((1, 3, 2, 4)), {}, "floating-point"),
        (np.ones((1, 3, 2, 4)), np.ones((1, 5, 2, 4)), {}, "q has shape"),
        (np.ones((1, 3, 3, 4)), np.ones((1, 3, 2, 4)), {}, "multiple"),
        (np.ones((1, 0, 3, 4)), np.ones((1, 0, 3, 4)), {}, "q is"),
        (np.full((1, 3, 2, 4), np.nan), np.ones((1, 3, 2, 4)), {}, "q holds NaN .* layer 0"),
        (np.ones((1, 3, 2, 4)), np.full((1, 3, 2, 4), np.inf), {}, "k holds NaN"),
        (np.ones((1, 3, 2, 4)), np.ones((1, 3, 2, 4)), {"tokens": ["a"]}, "3 positions, and there are 1 tokens"),
        (np.ones((1, 3, 2, 4)), np.ones((1, 3, 2, 4)), {"tokens": "abc"}, "list of strings"),
    ],
)
def test_q_and_k_that_do_not_fit(q: Any, k: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(iw.InputError, match=message):
        iw.Recording.from_qk(q, k, **options)


def test_questions_beyond_the_edges_are_refused() -> None:
    rec = iw.Recording.from_qk(*draw(9, 2, 5, 2, 2))
    source = rec.attention()
    for layer, head in [(2, 0), (-3, 0), (0, 2), (0, -3)]:
        with pytest.raises(iw.InputError, match=r"There is no (layer|head)"):
            source.block(layer, head, np.arange(5), slice(0, 5))
    for queries in [np.array([5]), np.array([-6]), np.zeros((2, 2), dtype=int)]:
        with pytest.raises(iw.InputError, match="queries"):
            source.block(0, 0, queries, slice(0, 5))
    with pytest.raises(iw.InputError, match="keys"):
        source.block(0, 0, np.arange(5), slice(0, 5, 2))
    with pytest.raises(iw.NotRecordedError, match="no prompt 1"):
        rec.attention(1)
    with pytest.raises(iw.NotRecordedError, match="no attention of layer 2"):
        rec.pattern(2, 0)
    with pytest.raises(iw.NotRecordedError, match="'resid_pre'"):
        rec["resid_pre", 0]
    with pytest.raises(iw.NotRecordedError, match=r"rec\['q', 0\]"):
        rec["q"]
    for key in [0, ("q",), ("q", 0, 1)]:
        with pytest.raises(iw.InputError, match="read by site and layer"):
            rec[key]  # type: ignore[index]
    with pytest.raises(iw.InputError, match="positions 0 to 4"):
        rec.pattern(0, 0, queries=5)


def test_a_pattern_too_large_to_hand_out_is_refused_at_once() -> None:
    big = torch.zeros(1, 1, 1, 1).expand(1, 60_000, 1, 4)
    rec = iw.Recording.from_qk(big, big)
    with pytest.raises(iw.InputError, match=r"14\.4 GB"):
        rec["pattern", 0]
    assert rec.pattern(0, 0, queries=3).shape == (60_000,)


def test_one_line_that_says_what_is_there() -> None:
    rec = iw.Recording.from_qk(*draw(10, 3, 5, 2, 2), name="ours")
    assert repr(rec) == "Recording(ours: 1 prompt of 5 tokens; layers 0–2; q k scores pattern lse)"
