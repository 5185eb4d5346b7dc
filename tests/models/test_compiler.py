"""Compiled weights say what the program says, on random programs and prompts; what cannot be compiled says why.

The oracle is the interpreter, which knows no weights; and, for the interpreter itself, plain Python.
"""

from __future__ import annotations

import operator
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import interpwidgets as iw
from interpwidgets.models.compiler import (
    Program,
    aggregate,
    compile_program,
    each,
    indices,
    inverse_width,
    labels,
    select,
    selector_width,
    tokens,
)
from interpwidgets.models.compiler.language import PREDICATES, Variable
from interpwidgets.models.compiler.layout import Layout

torch.set_num_threads(1)
WORDS = list("abcd")
LONGEST = 6
PROMPT = st.lists(st.sampled_from(WORDS), max_size=LONGEST)
COMPARISONS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def program(output: Variable, **given) -> Program:
    return Program("a program", output, **{"vocabulary": WORDS, "longest": LONGEST, **given})


def agree(made: Program, prompts: list[list[str]]) -> None:
    compiled = compile_program(made)
    for prompt in prompts:
        assert compiled(prompt) == made(prompt), (made, prompt)


# --- programs at random


def allowed(made: Program) -> bool:
    """No head reads what has a value at <bos>."""
    try:
        Layout(made).check()
    except iw.InputError:
        return False
    return True


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """A program of a few variables, each a random table or a head over what came before; it says a word or nothing."""
    categories: list[Variable] = [tokens, indices]
    domains: dict[Variable, list] = {tokens: WORDS, indices: list(range(LONGEST))}
    numbers: list[Variable] = []
    for number in range(draw(st.integers(1, 5))):
        name = f"v{number}"
        kind = draw(st.sampled_from(["table", "number", "first", "mean", "count", "step"]))
        one, two = draw(st.sampled_from(categories)), draw(st.sampled_from(categories))
        # Every head finds nothing at <bos>: what it reads of other positions is a table with a token, None there.
        if kind == "table":
            table = draw(
                st.dictionaries(st.tuples(*map(st.sampled_from, (domains[one], domains[two]))), st.integers(0, 3))
            )
            made = each(name, lambda a, b, table=table: table.get((a, b)), one, two)
            domains[made] = sorted({*table.values()}) or [0]
        elif kind == "number":
            sizes = draw(st.lists(st.integers(-2, 2), min_size=len(domains[one]), max_size=len(domains[one])))
            table = dict(zip(domains[one], sizes, strict=True))
            numbers.append(each(name, table.get, one, number=True))
            continue
        elif kind == "step":
            if not numbers:
                continue
            edge = draw(st.fractions(-2, 2, max_denominator=5))
            read = draw(st.sampled_from(numbers))
            made = each(name, lambda x, a, edge=edge: 1 if x > edge else (0 if x < 0 else None), read, one)
            domains[made] = [0, 1]
        else:
            same = [v for v in categories if type(domains[v][0]) is type(domains[one][0])]
            predicate = draw(st.sampled_from([*PREDICATES]))
            keys, queries = one, draw(st.sampled_from(same))
            if kind == "first":
                side = draw(st.sampled_from(["first", "last"]))
                made = aggregate(name, select(keys, queries, predicate, **{side: indices}), two)
                domains[made] = domains[two]
            elif kind == "mean" and numbers:
                read = draw(st.sampled_from(numbers))
                numbers.append(aggregate(name, select(keys, queries, predicate), read))
                continue
            else:
                made = selector_width(name, select(keys, queries, predicate))
                domains[made] = list(range(LONGEST + 1))
        categories.append(made)
    said = draw(st.sampled_from(categories))
    words = {value: draw(st.sampled_from([*WORDS, None])) for value in domains[said]}
    return program(each("said", lambda value, _: words.get(value), said, tokens))


@settings(max_examples=120, deadline=None)
@given(programs(), st.lists(PROMPT, min_size=1, max_size=6))
def test_compiled_weights_say_what_the_program_says(made: Program, prompts: list[list[str]]) -> None:
    assume(allowed(made))
    agree(made, prompts)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([*COMPARISONS]), st.sampled_from(["first", "last"]), st.lists(PROMPT, min_size=1, max_size=4))
def test_each_comparison_selects_what_it_says(predicate: str, side: str, prompts: list[list[str]]) -> None:
    found = aggregate("found", select(tokens, tokens, predicate, **{side: indices}), indices)
    made = program(each("said", lambda index: WORDS[index % 4], found))
    agree(made, prompts)
    for prompt in prompts:
        for query, word in enumerate(prompt):
            keys = [key for key in range(query + 1) if COMPARISONS[predicate](prompt[key], word)]
            wanted = WORDS[(keys[0] if side == "first" else keys[-1]) % 4] if keys else None
            assert made(prompt)[query + 1] == wanted


@settings(max_examples=25, deadline=None)
@given(st.lists(PROMPT, min_size=1, max_size=4))
def test_a_count_is_a_count(prompts: list[list[str]]) -> None:
    count = selector_width("count", select(tokens, tokens, "=="))
    made = program(each("said", lambda n: WORDS[n % 4], count))
    agree(made, prompts)
    for prompt in prompts:
        wanted = [WORDS[prompt[: n + 1].count(word) % 4] for n, word in enumerate(prompt)]
        assert made(prompt)[1:] == wanted


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=4, max_size=4), st.fractions(-3, 3, max_denominator=7), PROMPT)
def test_a_mean_is_a_mean(sizes: list[int], edge: Fraction, prompt: list[str]) -> None:
    size = each("size", dict(zip(WORDS, sizes, strict=True)).get, tokens, number=True)
    mean = aggregate("mean", select(tokens, tokens, "any"), size)
    made = program(each("said", lambda x: "a" if x > edge else "b", mean))
    agree(made, [prompt])
    values = [sizes[WORDS.index(word)] for word in prompt]
    wanted = ["a" if Fraction(sum(values[:n]), n) > edge else "b" for n in range(1, len(prompt) + 1)]
    assert made(prompt)[1:] == wanted


def test_a_head_gives_its_default_where_it_finds_nothing() -> None:
    before = each("before", lambda index: index - 1, indices)
    found = aggregate("found", select(indices, before, "=="), tokens, default="d")
    agree(program(found), [[], ["a"], ["a", "b", "c"]])
    assert program(found)(["a", "b"]) == ["d", "d", "a"]


def test_a_mean_of_numbers_gives_its_default_where_it_finds_nothing() -> None:
    before = each("before", lambda index: index - 1, indices)
    size = each("size", {"a": 1, "b": 2}.get, tokens, number=True)
    found = aggregate("found", select(indices, before, "=="), size, default=3)
    made = program(each("said", lambda x: {0: "a", 1: "b", 2: "c", 3: "d"}[int(x)], found))
    agree(made, [[], ["a"], ["b", "a", "d", "c"]])
    assert made(["b", "a", "d", "c"]) == ["d", "d", "c", "b", "a"]


# --- where things go


def test_layers_are_as_few_as_can_be() -> None:
    before = each("before", lambda index: index - 1, indices)  # in the embedding
    one = aggregate("one", select(indices, before, "=="), tokens)
    two = aggregate("two", select(indices, before, "=="), tokens)  # beside it
    both = each("both", lambda a, b: a if a < b else b, one, two)
    three = aggregate("three", select(indices, before, "=="), both)
    compiled = compile_program(program(each("said", str.lower, three)))  # in the unembedding
    truth = compiled.labels
    assert compiled.model.n_layers == 2
    assert truth.head == {(0, 0): "one", (0, 1): "two", (1, 0): "three"}
    assert truth.idle_heads == [[0, 2], [1, 1], [1, 2]]
    assert truth.idle_mlps == [1]
    home = {entry["name"]: entry["home"] for entry in truth.variables}
    assert home["before"] == home["token"] == "embed"
    assert home["both"] == "mlp 0"
    assert home["said"] == "logits"
    assert ["head 0.1", "mlp 0", "in"] in truth.edges
    assert ["mlp 0", "head 1.0", "v"] in truth.edges
    assert ["head 1.0", "logits", "in"] in truth.edges
    assert all(name.startswith("both is") for name in truth.neuron.values())


def test_a_neuron_is_a_case_and_silencing_it_forgets_that_case() -> None:
    last = aggregate(
        "last a", select(each("is a", lambda t: t == "a" or None, tokens), tokens, "any", last=indices), indices
    )
    both = each("both", lambda index, token: WORDS[(index + WORDS.index(token)) % 4], last, tokens)
    compiled = compile_program(program(both))
    prompts = [["a", "c", "b"], ["b", "a", "c"], ["c", "a", "a", "d"], ["d"]]
    for (layer, neuron), name in compiled.labels.neuron.items():
        value, index, word = name.split()[2], int(name.split("last a is ")[1].split()[0]), name.split()[-1]
        direction = torch.zeros(compiled.model.config.n_inner)
        direction[neuron] = 1
        for prompt in prompts:
            trace = compiled.program.trace(prompt)
            wanted = [
                None if (i, t) == (index, word) else said
                for i, t, said in zip(trace[last], trace[tokens], trace[both], strict=True)
            ]
            assert value in WORDS
            rec = iw.run(
                compiled.model,
                [compiled.ids(prompt)],
                [iw.Ablate("mlp_post", layer, direction=direction)],
                sites=["logits"],
            )
            rows = rec["logits"][0]
            said = [None if row.max() < 8 else ["", "", "", *WORDS][row.argmax()] for row in rows]
            assert said == wanted


def test_every_coordinate_is_named_and_holds_its_variable() -> None:
    previous = aggregate("previous", select(indices, each("before", lambda i: i - 1, indices), "=="), tokens)
    compiled = compile_program(program(previous))
    stream = iw.record(compiled.model, [compiled.ids(["c", "a"])], sites=["resid_post"])["resid_post", 0][0]
    found = [name for name, at in compiled.labels.direction.items() if stream[2, at] != 0]
    assert found == ["index is 1", "before is 0", "token is a", "previous is c", "attentions so far", "MLPs so far"]
    assert len(compiled.labels.directions) == compiled.model.d_model


def test_compiling_twice_gives_the_same_bytes(tmp_path) -> None:
    for name in ("one", "two"):
        count = each(
            "said", lambda x: "a" if x < Fraction(1, 3) else "b", inverse_width("x", select(tokens, tokens, "=="))
        )
        compile_program(program(count)).save(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["config.json", "model.safetensors", "program.json", "tokenizer.json", "tokenizer_config.json"]
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)


def test_a_saved_program_is_loaded_with_its_labels(tmp_path) -> None:
    previous = aggregate("previous", select(indices, each("before", lambda i: i - 1, indices), "=="), tokens)
    compiled = compile_program(program(previous))
    compiled.save(tmp_path / "mine")
    loaded = iw.load(tmp_path / "mine")
    assert labels(loaded) == labels(loaded.module) == compiled.labels
    assert labels(loaded).head[0, 0] == "previous"
    assert loaded.tokens("a b").ids.tolist() == compiled.ids(["a", "b"])
    assert "previous: index == before" in repr(compiled)


def test_float64_and_eager_attention_say_the_same() -> None:
    made = program(each("said", lambda n: WORDS[n % 4], selector_width("n", select(tokens, tokens, "!="))))
    compiled = compile_program(made)
    prompts = [list("abca"), list("ddddd"), ["a"]]
    compiled.model.module.set_attn_implementation("eager")
    assert [compiled(prompt) for prompt in prompts] == [made(prompt) for prompt in prompts]
    compiled.model.module.double()
    assert [compiled(prompt) for prompt in prompts] == [made(prompt) for prompt in prompts]


# --- what cannot be, and says so


def same() -> Variable:
    return aggregate("same", select(tokens, tokens, "=="), tokens)


def test_a_prompt_that_does_not_fit_is_refused() -> None:
    made = program(same())
    compiled = compile_program(made)
    for run in (made, compiled):
        with pytest.raises(iw.InputError, match="has no token 'x'; its vocabulary is a b c d"):
            run(["a", "x"])
        with pytest.raises(iw.InputError, match="7 tokens, and 'a program' reads at most 6"):
            run(["a"] * 7)
    with pytest.raises(iw.InputError, match="positions for 9"):
        iw.record(compiled.model, [[1] * 10])


def test_an_unknown_word_has_no_value() -> None:
    compiled = compile_program(program(same()))
    logits = iw.record(compiled.model, "a x", sites=["logits"])["logits"][0]
    assert logits[1].max() == 16
    assert not logits[2].any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: select(tokens, tokens, "is"), "'is' compares no key"),
        (lambda: select(tokens, tokens, "==", first=indices, last=indices), "not both"),
        (lambda: select(each("n", len, tokens, number=True), tokens, "=="), "'n' is a number"),
        (lambda: each("nothing", int), "a function of nothing"),
        (lambda: each("two", max, *(each(n, len, tokens, number=True) for n in "xy")), "several numbers"),
        (lambda: inverse_width("w", select(tokens, tokens, "==", last=indices)), "of the first or last there is one"),
        (lambda: program(each("n", len, tokens, number=True)), "is a number; a prediction is a word"),
        (lambda: program(indices), "can say 0, which its vocabulary does not have"),
        (lambda: program(tokens, vocabulary=["a", "a"]), "names a word twice"),
        (lambda: program(each("a", max, each("a", str, tokens), tokens)), "Two variables"),
        (lambda: program(same())["other"], "has no variable 'other'"),
    ],
)
def test_what_makes_no_sense_says_why(make, message: str) -> None:
    with pytest.raises(iw.InputError, match=message):
        compile_program(make())


@pytest.mark.parametrize("default", ["a", 0, False])
def test_a_key_with_a_value_at_bos_is_refused(default) -> None:
    found = aggregate("found", select(tokens, tokens, "<", last=indices), tokens, default=default)
    again = aggregate("again", select(found, tokens, "==", last=indices), tokens)
    with pytest.raises(
        iw.InputError, match=f"'again' reads 'found' at other positions, and at <bos> that is {default!r}"
    ):
        compile_program(program(again))


def test_a_number_at_bos_is_refused_as_a_value() -> None:
    size = each("size", len, tokens, number=True)
    mean = aggregate("mean", select(tokens, tokens, "any"), size, default=2)
    with pytest.raises(iw.InputError, match="'again' reads 'mean' at other positions, and at <bos> that is"):
        compile_program(program(each("said", lambda x: "a", aggregate("again", select(tokens, tokens, "=="), mean))))


def test_a_mixture_of_categories_is_refused() -> None:
    mixed = program(aggregate("mixed", select(tokens, tokens, "any"), tokens))
    assert mixed(["a", "a"]) == [None, "a", "a"]
    with pytest.raises(iw.InputError, match="'mixed' selects positions with different values, 'a', 'b'"):
        mixed(["a", "b"])


def test_too_many_cases_are_refused() -> None:
    wide = each("wide", lambda *_: "a", *[aggregate(n, select(indices, indices, "=="), indices) for n in "uvw"])
    with pytest.raises(iw.InputError, match="'wide' has 64,000 cases"):
        compile_program(program(wide, longest=40))


def test_labels_of_a_model_that_was_not_compiled() -> None:
    with pytest.raises(iw.InputError, match=r"has no program\.json"):
        labels(iw.load("induction-2l"))
