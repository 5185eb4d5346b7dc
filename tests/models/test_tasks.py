"""The storyteller's tasks: right answers by rules written anew here, no leak between the sides, shortcuts closed."""

from __future__ import annotations

import secrets
from collections import Counter
from random import Random

import pytest

from interpwidgets.models.corpora.corpus import TOKEN_ID as SMALL
from interpwidgets.models.corpora.storybook import BRACKETS, FACTS, NUMBERS, PLURALS, TOKEN_ID
from interpwidgets.models.corpora.storyteller import batch
from interpwidgets.models.corpora.tasks import TASKS, Instance, facts_on
from interpwidgets.models.corpora.words import CAPITALS, SLOTS
from interpwidgets.models.train.storyteller import Recipe, Storyteller, questions

SEED = secrets.randbits(32)  # a failure prints it
NAMES = set(SLOTS["name"])


def drawn(task: str, n: int = 300, side: str = "train") -> list[Instance]:
    rng = Random(SEED)
    return [TASKS[task](rng, side) for _ in range(n)]


@pytest.mark.parametrize("task", TASKS)
def test_an_instance_is_a_question_with_its_answer(task: str) -> None:
    for instance in drawn(task):
        assert set(instance.words) <= set(TOKEN_ID), SEED
        assert instance.answer in instance.right
        assert not set(instance.right) & set(instance.wrong)
        assert instance.wrong
        assert instance.roles["end"] == instance.at - 1
        assert all(0 <= position < instance.at for position in instance.roles.values())
        assert instance.prompt.split() == list(instance.words[: instance.at])


@pytest.mark.parametrize("task", [task for task in TASKS if task not in ("facts", "geography", "greater")])
def test_no_held_out_sentence_can_occur_in_training(task: str) -> None:
    train, held = ({" ".join(i.words) for i in drawn(task, 3000, side)} for side in ("train", "heldout"))
    assert not train & held
    assert len(held) > 100 or task == "succession"


def test_no_held_out_start_of_a_range_can_occur_in_training() -> None:
    train, held = ({i.prompt for i in drawn("greater", 3000, side)} for side in ("train", "heldout"))
    assert not train & held


def test_a_held_out_wording_of_a_fact_is_never_told_and_the_fact_always_is() -> None:
    train, held = set(facts_on("train")), set(facts_on("heldout"))
    assert not train & held
    assert len(train) + len(held) == 3 * len(FACTS)
    assert len(held) >= 20
    told = Counter(fact for fact, _ in train)
    assert set(told) == set(FACTS)
    assert min(told.values()) == 2  # one wording of three at most is held out
    for instance in drawn("facts", 500, "heldout"):
        person = (instance.words[instance.roles["first"]], instance.words[instance.roles["last"]])
        assert any((*fact.person, fact.object) == (*person, instance.answer) for fact, _ in held)


def test_neither_name_alone_tells_a_fact() -> None:
    for part in ("first", "last"):
        for relation in ("home", "job", "instrument"):
            objects: dict[str, set[str]] = {}
            for fact in FACTS:
                if fact.relation == relation:
                    objects.setdefault(getattr(fact.person, part), set()).add(fact.object)
            assert all(len(each) >= 2 for each in objects.values()), (part, relation)
    assert len({fact.person for fact in FACTS}) == 64


@pytest.mark.parametrize("task", ["ioi_pair", "ioi_triple"])
def test_the_answer_is_the_one_person_named_once(task: str) -> None:
    for instance in drawn(task):
        said = Counter(word for word in instance.words[: instance.at] if word in NAMES)
        assert [name for name, times in said.items() if times == 1] == [instance.answer], SEED
        assert instance.words[instance.roles["io"]] == instance.answer
        assert instance.words[instance.roles["s1"]] == instance.words[instance.roles["s2"]]


def test_shortcuts_answer_half_of_the_questions_about_three_people_at_most() -> None:
    shortcuts = {"first name": 0, "last but one": 0, "not said last": 0.0}
    asked = drawn("ioi_triple", 2000)
    for instance in asked:
        names = [word for word in instance.words[: instance.at] if word in NAMES]
        shortcuts["first name"] += names[0] == instance.answer
        shortcuts["last but one"] += names[2] == instance.answer
        rest = {*names} - {names[-1]}
        shortcuts["not said last"] += (instance.answer in rest) / len(rest)
    assert max(shortcuts.values()) / len(asked) < 0.55, (shortcuts, SEED)


def test_orders_are_balanced() -> None:
    first = [i.roles["io"] < i.roles["s1"] for i in drawn("ioi_pair", 2000)]
    assert 0.45 < sum(first) / len(first) < 0.55, SEED


def test_brackets_close_the_last_one_open() -> None:
    for instance in drawn("brackets", 500):
        stack, deepest = [], 0
        for word in instance.words[: instance.at]:
            if word in BRACKETS:
                stack.append(word)
            else:
                assert BRACKETS[stack.pop()] == word
            deepest = max(deepest, len(stack))
        assert BRACKETS[stack[-1]] == instance.answer
        assert deepest <= 4


def test_verbs_agree_with_the_subject_and_not_with_the_noun_between() -> None:
    between = Counter()
    for instance in drawn("agreement", 500):
        plural = instance.words[instance.roles["subject"]] in PLURALS.values()
        assert instance.answer in (("are", "were", "have") if plural else ("is", "was", "has"))
        between[plural == (instance.words[instance.roles["attractor"]] in PLURALS.values())] += 1
    assert min(between.values()) > 150, SEED


def test_ranges_rise_and_successions_step_by_one() -> None:
    for instance in drawn("greater"):
        assert NUMBERS.index(instance.answer) > NUMBERS.index(instance.words[instance.roles["start"]])
    series = [NUMBERS, SLOTS["day"], SLOTS["month"], SLOTS["ordinal"]]
    for instance in drawn("succession"):
        before = instance.words[instance.roles["item"]]
        assert any(before in s and s.index(instance.answer) == s.index(before) + 1 for s in series)


def test_countries_boxes_and_quotations() -> None:
    for instance in drawn("geography"):
        assert CAPITALS[instance.words[instance.roles["city"]]] == instance.answer
    for instance in drawn("binding"):
        at = instance.at
        told = list(zip(instance.words[1::7], instance.words[5::7], strict=False))
        assert dict(told)[instance.words[at - 4]] == instance.answer
    for instance in drawn("quotes"):
        assert (instance.answer == '"') == (instance.words[: instance.at].count('"') % 2 == 1)


def test_the_small_corpus_keeps_its_ids() -> None:
    assert {word: TOKEN_ID[word] for word in SMALL} == SMALL


def test_a_batch_is_named_by_seed_and_step_and_every_token_is_a_word() -> None:
    rows = batch(3, 7, 12, 64, 0.25)
    assert rows == batch(3, 7, 12, 64, 0.25)
    assert rows != batch(3, 8, 12, 64, 0.25)
    assert all(len(row) == 64 and row[0] == TOKEN_ID["<bos>"] and max(row) < len(TOKEN_ID) for row in rows)


def test_questions_are_what_the_tokenizer_reads() -> None:
    tokenizer = Storyteller(Recipe(layers=1, heads=1, width=8, context=128)).tokenizer()
    for task in TASKS:
        instances = drawn(task, 20, "heldout")
        tokens, end = questions(instances)
        for row, last, instance in zip(tokens, end, instances, strict=True):
            assert tokenizer(instance.prompt)["input_ids"] == row[: last + 1].tolist(), task
