"""Shards under Ray: the same function, wherever there is a processor for it.

Workers are sent shards with their tokens, so they need no disk in common with us. One that dies is replaced and its
shards are done again; what has come back is part of the state, and that is written down by the build.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from interpwidgets.errors import InputError
from interpwidgets.features.shard import Shard, active_in
from interpwidgets.features.state import Active, State
from interpwidgets.models.dictionary import Dictionary
from interpwidgets.models.model import Model

__all__ = ["Pool", "counted", "pool"]

_SHARDS = 4  # of a task, whose states are one when they come back


@contextmanager
def pool(model: Model, dictionary: Dictionary, batch: int, workers: int | None) -> Iterator[Pool]:
    """Workers for the length of a `with`: on the cluster that Ray is connected to, else on this machine."""
    try:
        import ray
    except ImportError:
        raise ImportError('engine="ray" needs ray, which is missing: pip install "interpwidgets[ray]".') from None

    if workers is not None and workers < 1:
        raise InputError(f"workers is 1 or more; got {workers}.")
    ours = not ray.is_initialized()
    if ours:
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    try:
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        most = workers or max(1, int(sum(node["Resources"].get("CPU", 0) for node in nodes)))
        yield Pool(ray, model, dictionary, batch, most)
    finally:
        if ours:
            ray.shutdown()


class Pool:
    """Does shards on Ray's workers, `most` tasks at a time and as many waiting."""

    def __init__(self, ray: Any, model: Model, dictionary: Dictionary, batch: int, most: int) -> None:
        self.ray, self.batch, self.most = ray, batch, most
        self._given = ray.put((model.module, model.tokenizer, model.name, dictionary))

    def actives(self, given: Iterable[Shard]) -> Iterator[tuple[int, Active]]:
        """The activations of each shard, as they come."""
        yield from self._results(_active, ((shard, self.batch) for shard in given))

    def add(self, state: State, given: Iterable[Shard]) -> Iterator[int]:
        """Merge the states of shards into one; how many were added at a time."""
        empty = self.ray.put(state.empty())
        for part in self._results(counted, ((empty, shards, self.batch) for shards in _chunks(given))):
            state.merge(part)
            yield int(part.done.sum())

    def _results(self, work: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """What a function gives for each call, in whatever order; a worker that dies is replaced without end."""
        remote = self.ray.remote(work).options(max_retries=-1, num_cpus=1)
        left, running = iter(calls), deque[Any]()
        while True:
            running.extend(remote.remote(self._given, *call) for call in islice(left, 2 * self.most - len(running)))
            if not running:
                return
            (done, *_), rest = self.ray.wait(list(running), num_returns=1)
            running = deque(rest)
            yield self.ray.get(done)


def _chunks(given: Iterable[Shard]) -> Iterator[list[Shard]]:
    left = iter(given)
    while some := list(islice(left, _SHARDS)):
        yield some


def _active(given: tuple[Any, Any, str, Dictionary], shard: Shard, batch: int) -> tuple[int, Active]:
    """A worker's part of the warm-up."""
    module, tokenizer, name, dictionary = given
    return shard.number, active_in(Model(module, tokenizer, name=name), dictionary, shard, batch)


def counted(given: tuple[Any, Any, str, Dictionary], empty: State, shards: list[Shard], batch: int) -> State:
    """A worker's part of the pass: the state of some shards."""
    module, tokenizer, name, dictionary = given
    model, state = Model(module, tokenizer, name=name), empty.empty()
    for shard in shards:
        state.add(shard.number, active_in(model, dictionary, shard, batch))
    return state
