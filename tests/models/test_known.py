"""Models with a known graph: the causal models against other ways to the answer, the weights against the graph."""

from __future__ import annotations

import json
import re
import secrets
from collections import Counter
from random import Random
from statistics import median

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from interpwidgets.models.load import load
from interpwidgets.models.train.known.cards import KNOWN, SYSTEMS, card_text, control_measures
from interpwidgets.models.train.known.exchange import Exchange, exchanged, recorded
from interpwidgets.models.train.known.facts import PEOPLE
from interpwidgets.models.train.known.graph import side_of
from interpwidgets.models.train.known.measure import PAIRS, measures, path_scores, roc_auc, scores
from interpwidgets.models.train.known.recipes import RECIPES
from interpwidgets.models.train.known.siit import Strict, components, interchange, spare, token_ids, tokens_of
from interpwidgets.models.training.loop import train

SEED = secrets.randbits(32)  # a failure prints it
NAMES = [name for name in KNOWN if (SYSTEMS[name].folder / "card.json").exists()]


def rng() -> Random:
    return Random(SEED)


@pytest.fixture(scope="module", params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def known(name):
    return KNOWN[name]


@pytest.fixture(scope="module")
def module(name):
    return AutoModelForCausalLM.from_pretrained(SYSTEMS[name].folder, use_safetensors=True).eval()


@pytest.fixture(scope="module")
def model(name):
    return load(name)


@pytest.fixture(scope="module")
def card(name) -> dict:
    return json.loads((SYSTEMS[name].folder / "card.json").read_text("utf-8"))


# --- the causal models


def test_ioi_answers_the_name_said_once() -> None:
    known, random = KNOWN["ioi-known"], rng()
    names = {name for _ in range(300) for name in known.draw(random, "train").read}
    orders = set()
    for _ in range(300):
        prompt = known.draw(random, "heldout")
        said = Counter(word for word in prompt.words if word in names)
        assert known.answer(prompt) == min(said, key=said.get), SEED
        assert sorted(said.values()) == [1, 2]
        orders.add(prompt.read.index(prompt.read[2]))
    assert orders == {0, 1}


def test_a_slot_of_another_prompt_is_read_in_this_one() -> None:
    known, random = KNOWN["ioi-known"], rng()
    for _ in range(100):
        prompt = known.draw(random, "heldout")
        for slot in (0, 1):
            for node, at in (("duplicate", prompt.roles["s2"][0]), ("s_inhibition", prompt.end)):
                assert known.answer(prompt, {(node, at): slot}) == prompt.read[1 - slot]


def test_no_half_of_a_name_tells_a_fact() -> None:
    for half in (0, 1):
        for relation in ("home", "job", "instrument"):
            for each in {person[half] for person in PEOPLE}:
                values = [facts[relation] for person, facts in PEOPLE.items() if person[half] == each]
                assert len(values) == 8
                assert Counter(values).most_common(1)[0][1] <= 4, (each, relation)


def test_facts_are_those_of_the_people() -> None:
    known, random = KNOWN["facts-known"], rng()
    for _ in range(200):
        prompt, other = known.draw(random, "heldout"), known.draw(random, "train")
        first, last, relation = prompt.read
        at = prompt.roles["last"][0]
        assert prompt.words[at - 2 : at] == (first, last)
        assert known.answer(prompt) == PEOPLE[first, last][relation]
        assert known.answer(prompt, {("first_name", at): other.read[0]}) == PEOPLE[other.read[0], last][relation]
        assert known.answer(prompt, {("relation", prompt.end): other.read[2]}) == PEOPLE[first, last][other.read[2]]
    assert len({prompt.words[-1] for prompt in (known.draw(random, "train") for _ in range(100))}) == 1


def test_brackets_are_balanced_if_pairs_can_be_taken_away() -> None:
    known, random = KNOWN["brackets-known"], rng()
    answers = Counter()
    for _ in range(300):
        prompt = known.draw(random, "heldout")
        string = "".join(prompt.words[:-1])
        while "()" in string:
            string = string.replace("()", "")
        assert known.answer(prompt) == ("unbalanced" if string else "balanced"), (prompt.text, SEED)
        answers[known.answer(prompt)] += 1
    assert min(answers.values()) > 90


def test_brackets_follow_what_is_given() -> None:
    known, random = KNOWN["brackets-known"], rng()
    for _ in range(100):
        prompt = known.draw(random, "train")
        at = random.choice(prompt.roles["string"])
        assert known.answer(prompt, {("depth", at): -1}) == known.answer(prompt, {("below", at): True}) == "unbalanced"
        assert known.answer(prompt, {("total", prompt.end): 2}) == "unbalanced"
        ends = prompt.words[:-1].count("(") == prompt.words[:-1].count(")")
        never = known.answer(prompt, {("went_below", prompt.end): False})
        assert never == ("balanced" if ends else "unbalanced")


@pytest.mark.parametrize("known", KNOWN.values(), ids=list(KNOWN))
def test_no_prompt_is_on_both_sides(known) -> None:
    random = rng()
    for side in ("train", "heldout"):
        for prompt in [known.draw(random, side) for _ in range(100)]:
            assert side_of(prompt.words) == side
            assert set(prompt.words) <= set(known.words)
            assert max(at for role in prompt.roles.values() for at in role) == prompt.end == len(prompt.words)
        for draw in known.pairs.values():
            for _ in range(20):
                clean, corrupted = draw(random, side)
                assert side_of(clean.words) == side_of(corrupted.words) == side
                assert clean.end == corrupted.end
                assert clean.roles == corrupted.roles
                assert known.answer(clean) != known.answer(corrupted)


# --- the weights against the graph, by plain hooks, one prompt at a time


def components_of(module, part):
    """The module whose input or output a component is, and its part of the last axis."""
    site, layer, head = part
    block, size = module.transformer.h[layer], module.config.n_embd // module.config.n_head
    return (block.attn.c_proj, slice(head * size, (head + 1) * size)) if site == "z" else (block.mlp, slice(None))


def said(module, known, prompt, changes=()) -> np.ndarray:
    """Logits at the end where each (component, position, value) is put in place."""
    hooks = []
    for part, at, value in changes:
        where, own = components_of(module, part)

        def before(_module, inputs, at=at, own=own, value=value):
            changed = inputs[0].clone()
            changed[0, at, own] = value
            return (changed,)

        def after(_module, _inputs, output, at=at, value=value):
            changed = output.clone()
            changed[0, at] = value
            return changed

        register = where.register_forward_pre_hook if part[0] == "z" else where.register_forward_hook
        hooks.append(register(before if part[0] == "z" else after))
    try:
        with torch.no_grad():
            return module(tokens_of(known, [prompt])).logits[0, -1].numpy()
    finally:
        for hook in hooks:
            hook.remove()


def given(module, known, prompt, part) -> torch.Tensor:
    """What a component gives [position, …]."""
    kept = []
    where, own = components_of(module, part)
    if part[0] == "z":
        hook = where.register_forward_pre_hook(lambda _module, inputs: kept.append(inputs[0][0, :, own]))
    else:
        hook = where.register_forward_hook(lambda _module, _inputs, output: kept.append(output[0]))
    with torch.no_grad():
        module(tokens_of(known, [prompt]))
    hook.remove()
    return kept[0]


def best(known, logits: np.ndarray) -> str:
    return [*token_ids(known)][int(logits.argmax())]


def test_it_answers_and_every_node_carries_its_variable(known, module) -> None:
    random, wrong, asked = rng(), 0, 0
    for _ in range(40):
        prompt, source = known.draw(random, "heldout"), known.draw(random, "heldout")
        wrong += best(known, said(module, known, prompt)) != known.answer(prompt)
        asked += 1
        found = known.values(source, {})
        for node in known.graph.nodes:
            values = given(module, known, source, node.component)
            here = random.choice(prompt.roles[node.role])
            there = random.choice(source.roles[node.role]) if node.role == "end" else source.roles[node.role][0]
            if node.role != "end" and len(prompt.roles[node.role]) > 1:  # the same place in the string
                there = here = min(here, source.roles[node.role][-1])
            answer = best(known, said(module, known, prompt, [(node.component, here, values[there])]))
            wrong += answer != known.answer(prompt, {(node.name, here): found[node.name, there]})
            asked += 1
    assert wrong <= 0.04 * asked, (wrong, asked, SEED)


def test_what_is_no_node_may_be_anything(known, module) -> None:
    random, wrong = rng(), 0
    for _ in range(40):
        prompt, source = known.draw(random, "heldout"), known.draw(random, "heldout")
        changes = []
        for part in components(module.config):
            values = given(module, known, source, part)
            carried = {at for n in known.graph.nodes if n.component == part for at in prompt.roles[n.role]}
            others = set(range(prompt.end + 1)) - carried
            changes += [(part, at, values[min(at, source.end)]) for at in others]
        wrong += best(known, said(module, known, prompt, changes)) != known.answer(prompt)
    assert wrong <= 2, (wrong, SEED)


def test_a_batch_of_exchanges_is_each_of_them(known, module) -> None:
    random = rng()
    prompts = [known.draw(random, "heldout") for _ in range(6)]
    sources = [*prompts[1:], prompts[0]]
    exchange = Exchange(prompts, sources, module.config)
    wanted = []
    for row, (prompt, source) in enumerate(zip(prompts, sources, strict=True)):
        taken = interchange(known, random, prompt, source, random.choice(known.graph.nodes))
        part = random.choice(components(module.config))
        spare(known, exchange, row, prompt, [part])
        taken.put(exchange, row)
        carried = {at for n in known.graph.nodes if n.component == part for at in prompt.roles[n.role]}
        moved = dict(taken.places)
        other, values = given(module, known, source, part), given(module, known, source, taken.component)
        changes = [(part, at, other[moved.get(at, min(at, source.end))]) for at in set(range(prompt.end + 1)) - carried]
        changes += [(taken.component, here, values[there]) for here, there in taken.places]
        wanted.append(said(module, known, prompt, changes))
    tokens, rows = tokens_of(known, prompts), torch.arange(6)
    with torch.no_grad():
        with recorded(module) as run:
            plain = module(tokens).logits
        with exchanged(module, run, rows.roll(-1), exchange):
            logits = module(tokens).logits[rows, [prompt.end for prompt in prompts]]
        assert torch.equal(module(tokens).logits, plain)  # no hook stays behind
    np.testing.assert_allclose(logits.numpy(), np.stack(wanted), atol=2e-3)


# --- what our methods find


def test_patching_by_hand_finds_what_the_sweep_finds(known, module, model) -> None:
    pair = next(iter(known.pairs))
    found = scores(known, model, SEED, pairs=[pair])
    random = Random(f"{known.name} {pair} {SEED}")
    pairs = [known.pairs[pair](random, "heldout") for _ in range(PAIRS)]
    ids = token_ids(known)

    def difference(logits, clean, corrupted) -> float:
        return float(logits[ids[known.answer(clean)]] - logits[ids[known.answer(corrupted)]])

    whole = [[difference(said(module, known, p), *both) for p in both] for both in pairs]
    gap = np.mean([clean - corrupted for clean, corrupted in whole])
    for part in [node.component for node in known.graph.nodes] + [("z", 1, 0), ("mlp_out", 1, -1)]:
        changed = []
        for (clean, corrupted), (_, base) in zip(pairs, whole, strict=True):
            change = [(part, slice(None), given(module, known, clean, part))]
            changed.append(difference(said(module, known, corrupted, change), clean, corrupted) - base)
        assert found[part] == pytest.approx(abs(np.mean(changed) / gap), abs=1e-3), (part, SEED)


def test_methods_rank_the_graph_above_the_rest(known, model) -> None:
    carriers = {node.component for node in known.graph.nodes}
    found = scores(known, model, SEED)
    assert len(found) == model.n_layers * (known_heads(model) + 1)
    inside = [score for part, score in found.items() if part in carriers]
    outside = [score for part, score in found.items() if part not in carriers]
    wins = [(a > b) + 0.5 * (a == b) for a in inside for b in outside]
    assert roc_auc(found, carriers) == pytest.approx(np.mean(wins))
    assert np.mean(wins) > 0.9, SEED
    receivers = {receiver for _, receiver in path_scores(known, model, SEED)}
    assert len(receivers) == len({edge.receiver for edge in known.graph.edges} - {"unequal", "total"})


def known_heads(model) -> int:
    return model.module.config.n_head


# --- the card


def test_the_card_keeps_what_the_issue_asks_for(known, card) -> None:
    assert set(card["measured"]) == set(measures(known))
    for measure, entry in card["measured"].items():
        assert len(entry["seeds"]) >= 3
        held = min(entry["seeds"].values())
        if measure.startswith("interchange_changed_"):
            assert held >= 0.95, measure  # of fewer prompts, and none of them right by chance
        elif measure.startswith(("behaviour", "interchange_", "others_one", "others_all")):
            assert held >= 0.98, measure
        elif measure == "others_write":
            assert held > 0, measure  # what carries nothing is quiet, and there


def test_the_graph_of_the_card_is_that_of_the_code(known, card) -> None:
    assert card["graph"] == json.loads(json.dumps(known.graph.as_json()))
    names = {node.name for node in known.graph.nodes}
    assert {end for edge in known.graph.edges for end in edge} == names | {"answer"}


def test_the_text_of_the_card_is_made_from_its_numbers(name, known, card) -> None:
    text = (SYSTEMS[name].folder / "README.md").read_text("utf-8")
    assert text == card_text(known, card)
    assert not re.search(r"\{\w+\}", text)


def test_the_control_is_held_to_its_numbers(name, known, card) -> None:
    control = load(SYSTEMS[name].folder / "control")
    draws = [control_measures(known, control, SEED + number) for number in range(3)]
    for measure, entry in next(iter(card["controls"].values())).items():
        low, high = entry["interval"]
        assert low <= median(draw[measure] for draw in draws) <= high, (measure, SEED)


def test_the_recipe_of_the_card_is_the_one_in_the_code(name, known, card) -> None:
    assert Strict(known, RECIPES[name](seed=card["recipe"]["seed"])).about()["run"] == card["run"]


def test_the_tokenizer_knows_every_word(known, model) -> None:
    prompt = known.draw(rng(), "heldout")
    assert model.tokenizer(prompt.text).input_ids == tokens_of(known, [prompt])[0].tolist()
    assert model.tokenizer.convert_tokens_to_ids(known.answer(prompt)) == token_ids(known)[known.answer(prompt)]


# --- training


@pytest.mark.parametrize("name", KNOWN)
def test_a_seed_gives_the_same_weights_cut_off_or_not(name: str, tmp_path) -> None:
    def recipe(**changed):
        return RECIPES[name](**{"steps": 4, "width": 16, "rows": 8, "checkpoint_every": 2, **changed})

    def weights(folder):
        return load_file(folder / "step-00004" / "model.safetensors")

    whole = train(Strict(KNOWN[name], recipe()), tmp_path / "whole", progress=False)
    train(Strict(KNOWN[name], recipe()), tmp_path / "cut", until=3, progress=False)
    cut = train(Strict(KNOWN[name], recipe()), tmp_path / "cut", progress=False)
    other = train(Strict(KNOWN[name], recipe(strict=False)), tmp_path / "whole", progress=False)
    assert whole.name == cut.name != other.name
    for key, weight in weights(whole).items():
        assert torch.equal(weight, weights(cut)[key]), key
    assert not torch.equal(weights(whole)["transformer.wte.weight"], weights(other)["transformer.wte.weight"])
