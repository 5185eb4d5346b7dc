"""Build `compiled-*`, and measure that their weights do what their programs say, part by part.

Nothing is trained: a recipe compiles a program into the folder of the system, always the same bytes. What a card says
is a comparison with the program, run by an interpreter that knows no weights, on fresh prompts; and an intervention on
the model is compared with the same intervention on the program.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from interpwidgets.intervene import Ablate, Intervention, Patch, run
from interpwidgets.models.compiler import Labels, Program, compile_program, labels
from interpwidgets.models.compiler.language import Aggregate, Trace, Variable
from interpwidgets.models.compiler.programs import END, PROGRAMS
from interpwidgets.models.compiler.tokenizer import SPECIALS
from interpwidgets.models.model import Model
from interpwidgets.models.record import record
from interpwidgets.models.recording import Recording
from interpwidgets.models.train.compiled_text import card_text
from interpwidgets.models.train.system import System

__all__ = ["MEASURES", "SYSTEMS", "expected", "measure", "task_prompt"]

PROMPTS = 4  # of each length in a sample
LENGTHS = 5  # drawn in a sample, beside the shortest and the longest
LONG = 60  # task prompts of the greatest length, on which parts are ablated
MEASURES = {
    "accuracy": "share of positions at which the model says what the program says; any words, of every length",
    "task_accuracy": "share of task prompts right at every position, as checked by plain Python without our language",
    "margin": "smallest distance from the logit of what the program says to the next",
    "silence": "largest logit, in size, where the program says nothing",
    "attention_error": "largest difference between a head's attention and equal shares of what its program selects",
    "stream_error": "largest difference between a coordinate of the last residual stream and the program's variable",
    "norm_error": "largest difference between a norm's output and its input less the mean",
    "interchange_accuracy": "a head or MLP has its values of another prompt: share of positions as the program says",
    "ablation_accuracy": "a head or MLP writes nothing: share of positions as the program says",
    "ablation_changes": "the same: share of long task prompts changed, for the head or MLP that changes fewest",
    "idle_effect": "noise in every idle head and idle MLP: largest change of a logit",
}
"""What `measure` gives, by name, and what each number is."""


@dataclass(frozen=True)
class _Sample:
    """Prompts of one length, what the program makes of them, and what happened in the model."""

    model: Model
    program: Program
    prompts: list[list[str]]
    traces: list[Trace]
    recording: Recording

    @classmethod
    def of(cls, model: Model, program: Program, prompts: list[list[str]]) -> _Sample:
        """Run both."""
        sites = ["logits", "z", "mlp_out", "q", "k", "resid_post"]
        traces = [program.trace(prompt) for prompt in prompts]
        return cls(model, program, prompts, traces, record(model, _ids(program, prompts), sites=sites))

    @property
    def logits(self) -> Tensor:
        """What came out, [prompt, pos, word]."""
        logits: Tensor = self.recording["logits"]
        return logits

    def agreement(self, logits: Tensor, wanted: list[list[Any]]) -> list[float]:
        """Say for each prompt at which share of positions the logits say what is wanted."""
        said = [_said(self.program, rows) for rows in logits]
        pairs = zip(said, wanted, strict=True)
        return [sum(map(_equal, mine, theirs)) / len(mine) for mine, theirs in pairs]

    def after(self, interventions: list[Intervention]) -> Tensor:
        """Give the logits [prompt, pos, word] after an intervention."""
        found: Tensor = run(self.model, _ids(self.program, self.prompts), interventions, sites=["logits"])["logits"]
        return found


@torch.no_grad()
def measure(model: Model, seed: int) -> dict[str, float]:
    """Measure what `load` gave, on prompts drawn from `seed`; the names are those of MEASURES, in order."""
    rng = Random(f"compiled {seed}")  # noqa: S311  a test sample, not a secret
    truth = labels(model)
    program = PROGRAMS[truth.program]()
    lengths = [program.longest, *(rng.randrange(3, program.longest) for _ in range(LENGTHS))]
    random = [
        _Sample.of(model, program, [rng.choices(program.vocabulary, k=length) for _ in range(PROMPTS)])
        for length in (0, 1, *lengths)
    ]
    tasks = [
        _Sample.of(model, program, [task_prompt(program, length, rng) for _ in range(PROMPTS)]) for length in lengths
    ]
    samples = random + tasks
    ablated = _ablated(
        _Sample.of(model, program, [task_prompt(program, program.longest, rng) for _ in range(LONG)]), truth
    )
    found = {
        "accuracy": _mean(share for each in samples for share in each.agreement(each.logits, _wanted(each))),
        "task_accuracy": _mean(share == 1 for each in tasks for share in each.agreement(each.logits, _checked(each))),
        "margin": min(margin for each in samples for margin in _margins(each)),
        "silence": max(size for each in samples for size in _silences(each)),
        "attention_error": max(error for each in samples for error in _attention_errors(each, truth)),
        "stream_error": max(_stream_error(each, truth) for each in samples),
        "norm_error": max(_norm_error(each) for each in samples),
        "interchange_accuracy": _mean(share for each in samples for share in _interchanged(each, truth)),
        "ablation_accuracy": _mean(share for shares, _ in ablated.values() for share in shares),
        "ablation_changes": min(_mean(changed) for _, changed in ablated.values()),
        "idle_effect": max(_idle_effect(each, truth, rng) for each in samples),
    }
    return {name: float(found[name]) for name in MEASURES}


def task_prompt(program: Program, length: int, rng: Random) -> list[str]:
    """Draw a prompt that the program was written for, at most so long; with its answer, where an `=` asks for one."""
    words = [word for word in program.vocabulary if word not in {END, program.eos} and len(word) == 1 and word != "!"]
    if program.name == "compiled-parentheses":
        prompt: list[str] = []
        for _ in range(length):  # mostly no bracket is closed that is not open
            closing = prompt.count("(") > prompt.count(")") or rng.random() < 0.1
            prompt.append(")" if closing and rng.random() < 0.5 else "(")
        return prompt
    if program.name == "compiled-frequency":
        words = [word for word in words if word.isalpha()]
    if program.eos is None:
        return rng.choices(words, k=length)
    asked = rng.choices(words, k=max(0, length - 1) // 2)
    answer = asked[::-1] if program.name == "compiled-reverse" else sorted(asked)
    return [*asked, END, *answer][: max(length, 1)]


def expected(program: Program, prompt: list[str]) -> list[str | None]:
    """Say in plain Python what is to be said at `<bos>` and after every token of a task prompt."""
    said: list[str | None] = [None]
    if program.eos is not None:
        end = prompt.index(END)
        asked = prompt[:end]
        answer = asked[::-1] if program.name == "compiled-reverse" else sorted(asked)
        return [*said, *[None] * end, *answer, program.eos][: len(prompt) + 1]
    for number, word in enumerate(prompt):
        before = prompt[:number]
        if program.name == "compiled-frequency":
            said.append(str(before.count(word) + 1))
        elif program.name == "compiled-induction":
            last = number if number and prompt[number - 1] == word else _last(before[:-1], word) + 1
            said.append(prompt[last] if last else None)
        else:
            depths = [prompt[: n + 1].count("(") - prompt[: n + 1].count(")") for n in range(number + 1)]
            said.append("!" if min(depths) < 0 else str(depths[-1]))
    return said


def _last(words: list[str], word: str) -> int:
    return max((number for number, each in enumerate(words) if each == word), default=-1)


def _ids(program: Program, prompts: list[list[str]]) -> list[list[int]]:
    words = [*SPECIALS, *program.vocabulary]
    return [[SPECIALS.index("<bos>"), *map(words.index, prompt)] for prompt in prompts]


def _said(program: Program, logits: Tensor) -> list[str | None]:
    """Read the words from logits [pos, word]; None where no word is ahead."""
    words = [*SPECIALS, *program.vocabulary]
    best = logits.topk(2).values
    ahead = (best[:, 0] - best[:, 1] > 1).tolist()
    return [words[word] if clear else None for word, clear in zip(logits.argmax(-1).tolist(), ahead, strict=True)]


def _wanted(sample: _Sample) -> list[list[Any]]:
    return [trace[sample.program.output] for trace in sample.traces]


def _checked(sample: _Sample) -> list[list[Any]]:
    return [list(expected(sample.program, prompt)) for prompt in sample.prompts]


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other)


def _margins(sample: _Sample) -> Iterator[float]:
    words = [*SPECIALS, *sample.program.vocabulary]
    yield float("inf")
    for logits, wanted in zip(sample.logits, _wanted(sample), strict=True):
        for row, word in zip(logits, wanted, strict=True):
            if word is not None:
                others = row.clone()
                others[words.index(word)] = -torch.inf
                yield float(row[words.index(word)] - others.max())


def _silences(sample: _Sample) -> Iterator[float]:
    yield 0.0
    for logits, wanted in zip(sample.logits, _wanted(sample), strict=True):
        yield from (float(row.abs().max()) for row, word in zip(logits, wanted, strict=True) if word is None)


def _attention_errors(sample: _Sample, truth: Labels) -> Iterator[float]:
    for (layer, number), name in truth.head.items():
        head = sample.program[name]
        assert isinstance(head, Aggregate)
        for prompt, trace in enumerate(sample.traces):
            pattern = torch.as_tensor(sample.recording.pattern(layer=layer, head=number, batch=prompt))
            wanted = torch.zeros_like(pattern)
            for query in range(len(wanted)):
                chosen = head.selector.chosen(query, trace)
                chosen = [0, *chosen] if head.of is None else chosen or [0]
                wanted[query, chosen] = 1 / len(chosen)
            yield float((pattern - wanted).abs().max())


def _stream_error(sample: _Sample, truth: Labels) -> float:
    """Compare the stream after the last layer, coordinate by coordinate, with the variables that stand there."""
    stream = sample.recording["resid_post", sample.model.n_layers - 1]  # [prompt, pos, d_model]
    wanted = torch.zeros_like(stream)
    wanted[:, 0, truth.direction["it is <bos>"]] = 1
    wanted[..., truth.direction["attentions so far"]] = wanted[..., truth.direction["MLPs so far"]] = (
        sample.model.n_layers
    )
    for entry in truth.variables:
        variable = sample.program[entry["name"]]
        for prompt, trace in enumerate(sample.traces):
            for position, value in enumerate(trace[variable] if entry["directions"] else []):
                if variable.number:
                    wanted[prompt, position, entry["directions"][0]] = float(value)
                elif value is not None:
                    wanted[prompt, position, truth.direction[f"{variable.name} is {value}"]] = 1
    return float((stream - wanted).abs().max())


def _norm_error(sample: _Sample) -> float:
    errors: list[float] = []

    def compare(_module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        (x,) = inputs
        errors.append(float((output - (x - x.mean(-1, keepdim=True))).abs().max()))

    norms = [part for part in sample.model.module.modules() if isinstance(part, torch.nn.LayerNorm)]
    hooks = [norm.register_forward_hook(compare) for norm in norms]
    try:
        sample.model.module(torch.tensor(_ids(sample.program, sample.prompts)))
    finally:
        for hook in hooks:
            hook.remove()
    return max(errors)


def _parts(truth: Labels, program: Program) -> dict[tuple[int, int | None], list[Variable]]:
    """The heads and MLPs that are used, with the variables that they compute; an MLP has no head number."""
    parts: dict[tuple[int, int | None], list[Variable]] = {at: [program[name]] for at, name in truth.head.items()}
    for neuron in truth.neurons:
        variables = parts.setdefault((neuron["layer"], None), [])
        if program[neuron["variable"]] not in variables:
            variables.append(program[neuron["variable"]])
    return parts


def _interchanged(sample: _Sample, truth: Labels) -> Iterator[float]:
    """Give each part, in turn, what it writes on the next prompt of the sample; in the model and in the program."""
    count = len(sample.prompts)
    other = [(number + 1) % count for number in range(count)]
    for (layer, head), variables in _parts(truth, sample.program).items():
        site = "mlp_out" if head is None else "z"
        patch = Patch(site, layer, head=head, value=sample.recording[site, layer][other])
        wanted = [
            sample.program(prompt, {variable: sample.traces[i][variable] for variable in variables})
            for prompt, i in zip(sample.prompts, other, strict=True)
        ]
        yield from sample.agreement(sample.after([patch]), wanted)


def _ablated(sample: _Sample, truth: Labels) -> dict[Any, tuple[list[float], list[bool]]]:
    """Silence each part: how well the model then agrees with the program so changed, and which prompts change."""
    found = {}
    plain = [_said(sample.program, logits) for logits in sample.logits]
    for (layer, head), variables in _parts(truth, sample.program).items():
        logits = sample.after([Ablate("mlp_out" if head is None else "z", layer, head=head)])
        nothing = [[None] * (len(prompt) + 1) for prompt in sample.prompts]
        wanted = [
            sample.program(prompt, dict.fromkeys(variables, none))
            for prompt, none in zip(sample.prompts, nothing, strict=True)
        ]
        changed = [_said(sample.program, rows) != before for rows, before in zip(logits, plain, strict=True)]
        found[layer, head] = (sample.agreement(logits, wanted), changed)
    return found


def _idle_effect(sample: _Sample, truth: Labels, rng: Random) -> float:
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    sites = [("z", layer, head) for layer, head in truth.idle_heads] + [("mlp_post", n, None) for n in truth.idle_mlps]
    noise: list[Intervention] = []
    for site, layer, head in sites:
        size = sample.model.config.n_inner if head is None else sample.model.config.n_embd // sample.model.config.n_head
        noise.append(Patch(site, layer, head=head, value=torch.randn(size, generator=generator)))
    return float((sample.after(noise) - sample.logits).abs().max())


def _mean(values: Any) -> float:
    found = list(values)
    return float(Fraction(sum(map(Fraction, found)), len(found)))


def _build(name: str) -> Any:
    def build(folder: Path) -> None:
        compile_program(PROGRAMS[name]()).save(folder)

    return build


def _more(folders: dict[str, Path], _runs: Any, shipped: str) -> dict[str, Any]:
    """Say what is in the weights, for the card's text."""
    compiled = compile_program(PROGRAMS[folders[shipped].name]())
    truth, model = compiled.labels, compiled.model
    mlps: dict[int, Any] = {}
    for neuron in truth.neurons:
        mlp = mlps.setdefault(neuron["layer"], {"computes": [], "neurons": 0})
        mlp["neurons"] += 1
        mlp["computes"] += [neuron["variable"]] * (neuron["variable"] not in mlp["computes"])
    return {
        "layers": model.n_layers,
        "heads": model.n_heads,
        "width": model.d_model,
        "context": model.context,
        "program": truth.text,
        "parts": truth.heads,
        "mlps": {str(layer): mlp for layer, mlp in mlps.items()},
        "idle_heads": truth.idle_heads,
        "idle_mlps": truth.idle_mlps,
        "edges": truth.edges,
    }


SYSTEMS = {
    name: System(
        name=name, measures=MEASURES, measure=measure, text=card_text, build=_build(name), more=_more, samples=12
    )
    for name in PROGRAMS
}
