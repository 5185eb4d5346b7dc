"""SAEDashboard's batch files, which Neuronpedia takes: `batch-0.json`, `batch-1.json`, … with whole features in each.

    {"model_id", "layer", "sae_set", "features": [{"feature_index", "pos_str", "pos_values", "neg_str", "neg_values",
     "frac_nonzero", "freq_hist_data_bar_values", "freq_hist_data_bar_heights", "activations": [{"bin_min", "bin_max",
     "bin_contains", "tokens", "values", "qualifying_token_index"}], …}]}

Of the top group, `bin_min` and `bin_contains` are −1. What a record does not have (neuron alignment, correlations, the
histogram of logits) is written empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from interpwidgets.errors import InputError
from interpwidgets.features.files import whole, writable
from interpwidgets.features.interop.reading import loads, number, numbered, numbers, take, texts
from interpwidgets.features.interop.records import FeatureRecord, Snippet, batches

__all__ = ["dashboard", "read_sae_dashboard", "shown", "snippet", "write_sae_dashboard"]

_EMPTY = (
    "neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1", "correlated_neurons_indices",
    "correlated_neurons_l1", "correlated_neurons_pearson", "correlated_features_indices", "correlated_features_l1",
    "correlated_features_pearson", "logits_hist_data_bar_heights", "logits_hist_data_bar_values",
    "decoder_weights_dist",
)  # fmt: skip


def write_sae_dashboard(
    folder: str | Path,
    records: Iterable[FeatureRecord],
    *,
    model: str,
    layer: int,
    sae_set: str,
    per_batch: int = 128,
) -> None:
    """Write features, so many in a file."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    head = {"model_id": model, "layer": layer, "sae_set": sae_set}
    with writable(folder):
        for batch, some in enumerate(batches(records, per_batch)):
            features = [_written(record) for record in some]
            data = json.dumps({**head, "features": features}, ensure_ascii=False).encode()
            whole(folder / f"batch-{batch}.json", partial(_put, data))


def _put(data: bytes, file: Any) -> None:
    file.write(data)


def dashboard(record: FeatureRecord) -> dict[str, Any]:
    """The fields that SAEDashboard and Neuronpedia's export share."""
    (pos, pos_values), (neg, neg_values), (middles, heights) = (
        (list(part) for part in zip(*pairs, strict=True)) if pairs else ([], [])
        for pairs in (record.top_logits, record.bottom_logits, record.bars)
    )
    return {
        "pos_str": pos, "pos_values": pos_values, "neg_str": neg, "neg_values": neg_values,
        "frac_nonzero": record.density,
        "freq_hist_data_bar_values": middles, "freq_hist_data_bar_heights": heights,
        **{name: [] for name in _EMPTY},
    }  # fmt: skip


def _written(record: FeatureRecord) -> dict[str, Any]:
    activations = [
        {
            "bin_min": each.low, "bin_max": each.high, "bin_contains": each.share, "tokens": list(each.tokens),
            "values": list(each.activations), "qualifying_token_index": each.position,
        }
        for each in record.snippets
    ]  # fmt: skip
    return {"feature_index": record.index, **dashboard(record), "activations": activations}


def read_sae_dashboard(folder: str | Path) -> Iterator[FeatureRecord]:
    """Read the features of all batches. Raises InputError for a folder without, and for damaged files."""
    paths = numbered(Path(folder), "batch-*.json")
    if not paths:
        raise InputError(f"{folder} holds no batch-….json of SAEDashboard.")
    return chain.from_iterable(map(_features, paths))


def _features(path: Path) -> Iterator[FeatureRecord]:
    found = loads(path.read_bytes(), path)
    for place, row in enumerate(take(found, "features", list, path)):
        where = f"{path}, feature {place} in it,"
        if not isinstance(row, dict):
            raise InputError(f"{where} is a {type(row).__name__}, not an object.")
        activations = take(row, "activations", list, where)
        snippets = tuple(
            snippet(each if isinstance(each, dict) else {}, ("bin_min", "bin_max", "bin_contains"),
                    "qualifying_token_index", where)
            for each in activations
        )  # fmt: skip
        yield shown(row, take(row, "feature_index", int, where), snippets, where)


def shown(row: dict[str, Any], index: int, snippets: tuple[Snippet, ...], where: str) -> FeatureRecord:
    """A record of the fields that `dashboard` writes."""
    pairs = {}
    for name, texts_of in (("pos", texts), ("neg", texts)):
        words, values = texts_of(row, f"{name}_str", where), numbers(row, f"{name}_values", where)
        if len(words) != len(values):
            raise InputError(f"{where} is not as expected: {len(words)} {name}_str and {len(values)} {name}_values.")
        pairs[name] = tuple(zip(words, values, strict=True))
    middles, heights = (numbers(row, f"freq_hist_data_bar_{what}", where) for what in ("values", "heights"))
    if len(middles) != len(heights):
        raise InputError(f"{where} is not as expected: {len(middles)} bars have {len(heights)} heights.")
    return FeatureRecord(
        index=index,
        snippets=snippets,
        top_logits=pairs["pos"],
        bottom_logits=pairs["neg"],
        bars=tuple(zip(middles, heights, strict=True)),
        density=number(row, "frac_nonzero", where, 0.0),
        max=max((value for each in snippets for value in each.activations), default=0.0),
    )


def snippet(row: dict[str, Any], bins: tuple[str, str, str], position: str, where: str) -> Snippet:
    """One example; groups have no names there, so they are called by their bounds."""
    tokens, values = texts(row, "tokens", where), numbers(row, "values", where)
    if len(tokens) != len(values):
        raise InputError(f"{where} is not as expected: {len(tokens)} tokens and {len(values)} values.")
    low, high, share = (number(row, name, where, -1.0) for name in bins)
    at = row.get(position)
    if not isinstance(at, int) or not 0 <= at < len(tokens):
        at = max(range(len(values)), key=values.__getitem__, default=0)
    return Snippet(tokens, values, at, "top" if share == -1 else f"{low:.4g} … {high:.4g}", low, high, share)
