"""Who is active with whom, in each of the ways it is counted, against a loop over all pairs."""

from __future__ import annotations

import numpy as np
import pytest

from interpwidgets.features import together
from interpwidgets.features.state import Active
from interpwidgets.features.together import Together

N, TOKENS, SHARDS, K = 23, 40, 3, 4


def shards(rng: np.random.Generator, share: float) -> tuple[list[Active], np.ndarray]:
    """Shards of forty tokens, and which feature is active where: [token, feature]."""
    on = rng.random((SHARDS * TOKENS, N)) < share
    on[:, 3] = False
    on[TOKENS : 2 * TOKENS] &= rng.random() < 0.5  # perhaps a shard without any
    parts = []
    for number in range(SHARDS):
        feature, token = np.nonzero(on[number * TOKENS : (number + 1) * TOKENS].T)
        token = token + number * TOKENS
        parts.append(Active(feature.astype(np.int32), token, token // 8, np.ones(len(token), np.float32)))
    return parts, on


@pytest.mark.parametrize(("dense", "many"), [(True, 0), (False, 0), (False, N + 1)])
@pytest.mark.parametrize("share", [0.02, 0.3])
def test_partners_are_those_of_a_loop_over_pairs(monkeypatch, fresh, dense, many, share):
    monkeypatch.setattr(together, "_dearer", lambda *_: dense)
    monkeypatch.setattr(together, "_MANY", many)
    monkeypatch.setattr(together, "_CHUNK", 7 * N)  # blocks of seven tokens
    parts, on = shards(fresh, share)
    first, last = 2, N - 1
    found = list(Together(iter(parts), N).partners(first, last, K))
    for feature, (others, jaccard) in enumerate(found, first):
        wanted = []
        for other in range(N):
            both, either = (on[:, feature] & on[:, other]).sum(), (on[:, feature] | on[:, other]).sum()
            if other != feature and both >= 2:
                wanted.append((-both / either, other))
        wanted = sorted(wanted)[:K]
        assert others.tolist() == [other for _, other in wanted]
        np.testing.assert_allclose(jaccard, [-value for value, _ in wanted], rtol=1e-15)


def test_the_dense_product_is_taken_where_it_is_cheaper(fresh):
    few, many = (Together(iter(shards(fresh, share)[0]), N) for share in (0.0, 0.5))
    assert few._dense is None
    assert many._dense is not None
