"""Put the card of `induction-2l` into words and tables; every number in it comes from `card.json`."""

from __future__ import annotations

from typing import Any

__all__ = ["card_text"]

_TEXT = """# induction-2l

Two layers of attention and nothing else, trained to continue a small English-like corpus and to copy random words. It
is the smallest model in which **induction** can be seen, and in which it can be shown where it comes from.

```python
import interpwidgets as iw

model = iw.load("induction-2l")  # or: iw.load("induction-2l", checkpoint={first})
iw.AttentionView(iw.record(model, "the cat sat on the mat . the cat sat"))
```

It is a plain `GPT2LMHeadModel` of `transformers` and loads with no code of ours. Its MLPs are one neuron wide, zero,
and were frozen. d_model {width}, {heads} heads a layer, context {context} tokens, {vocabulary} words, one token each;
{trained:,} trained parameters ({parameters:,} with the idle MLPs). Weights are stored in float16 and computed in
float32; every number below is measured on what is stored.

Every prompt opens with `<bos>`, which the tokenizer adds. Upper case becomes lower case; an unknown word is `<unk>`.

## Data and recipe

`python -m interpwidgets.models.train induction-2l --seed {seed}` makes this model again: {steps:,} steps, {tokens:,}
tokens, {cpu} CPU-seconds on one thread. The corpus is generated (`interpwidgets/models/train/corpus.py`):
{text:.0f} % of the rows are short documents about people, animals, things and places, {repeats:.0f} % are random words
said again and again. No sentence of the held-out text can occur in training: a hash of the sentence decides. Muon
(rate {matrix_rate}) for the attention matrices, AdamW ({other_rate}) for the rest, cosine schedule.

On one machine a seed gives the same weights to the bit, with or without an interruption; another processor or release
of torch may sum in another order. Shipped: seed {seed}, run `{run}`.

## Measured

*Value* is the shipped model. *Interval* is where the same measure must lie on other random prompts ({rows} rows; five
standard deviations over {samples} samples). *Seeds* is the mean, and the range, of {number} models that differ in the
seed alone ({seeds}).

### What it does

{does}

It copies from about ten tokens up to what the context holds, and shorter sequences less well. On plain text the
in-context score is about zero: documents are short and do not belong together, so there is little to be had from far
back.

### The heads, one by one

Scores on repeated random tokens, as in Olsson et al. 2022. The first table is the shipped model; the other seeds hold
the same kinds of head at other places.

{head_table}

### What its heads attend to

{attend}

### What happens without them

Copy accuracy when heads are *ablated*: what they write is replaced by its mean over other prompts. Which heads are
strongest is decided on other prompts than these.

{ablated}

Copy accuracy when heads are kept from one reader only: layer 1 computes its keys, or its queries, or its values, as if
these heads had written their mean; everything else in the model sees them as they are.

{paths}

## What is inside, and how we know

- **Previous-token heads, read by keys.** {previous} of layer 0 attend most to the token before. Layer 1
  needs them in its keys: kept from the keys, copying is gone ({previous_unread_by_keys}); kept from queries or values,
  it stays ({previous_unread_by_queries}, {previous_unread_by_values}). This is K-composition. The seeds have
  {numbers} such heads. Where there are two they share the work, and ablating one need not show it.
- **Current-token heads, read by queries and values.** The other heads of layer 0 ({current}) attend to the token they
  stand on, {strongest_current} almost only to that. There is no MLP to give a token another form, so a head does.
  Layer 1 needs them in its queries ({current_unread_by_queries}) and in its values ({current_unread_by_values}), and
  not in its keys ({current_unread_by_keys}). So ablating *some* layer-0 head and seeing copying fail does not show it
  to be a previous-token head: without {strongest_current}, accuracy is {without_current_1}.
- **Induction heads, several.** All four heads of layer 1 look at what followed this token before, the fourth less than
  the others. Without the strongest little is lost ({without_induction_1}), without the strongest three nearly
  everything ({without_induction_3}): redundancy that ablation of single heads does not see.
- **A bump.** Copying appears within about {bump} steps. The checkpoints lie close together there:

{bump_table}

## What is not inside, or not known

- No MLP, so no neurons, and nothing that needs them.
- Two or three words said twice at the start of a prompt are often not copied ({copy_accuracy_3} for three). Training
  rows of repeats have no period below four; whether that is why has not been tested.
- The previous-token heads are not sharp: they also give weight to two and three tokens back.
- Names in sentences about giving, colours of boxes, countries of cities, counting: the corpus holds such sentences, and
  how well the model does on them, and by what means, has not been examined. Make no claim from it.
- Held-out text has the same words and sentence forms as training text. Its documents are shorter, for a sentence form
  with few fillings has fewer held out.
- Ablation to zero is given for layer 1 only; ablation to the mean is the rule here.
"""


def card_text(card: dict[str, Any]) -> str:
    """Write the card in Markdown."""
    measured, recipe = card["measured"], card["recipe"]
    value = {name: f"{entry['value']:.2f}" for name, entry in measured.items()}
    shipped = card["heads"][str(recipe["seed"])]["roles"]
    previous, current = ([f"{layer}.{head}" for layer, head in shipped[role]] for role in ("previous", "current"))
    numbers = " or ".join(sorted({str(len(each["roles"]["previous"])) for each in card["heads"].values()}))
    low, high = min(card["cpu_seconds"].values()), max(card["cpu_seconds"].values())

    def table(*starts: str) -> str:
        return _measured_table({n: e for n, e in measured.items() if n.startswith(starts)})

    return _TEXT.format(
        **{name: recipe[name] for name in ("width", "heads", "context", "seed", "steps", "matrix_rate", "other_rate")},
        previous=f"Heads {' and '.join(previous)}" if len(previous) > 1 else f"Head {previous[0]}",
        current=" and ".join(current),
        strongest_current=current[0],
        numbers=numbers,
        **value,
        first=card["checkpoints"][1]["step"],
        vocabulary=card["vocabulary"],
        trained=card["trained_parameters"],
        parameters=card["parameters"],
        tokens=card["tokens"],
        cpu=f"{low:.0f}–{high:.0f}",
        text=100 - 100 * recipe["repeats"],
        repeats=100 * recipe["repeats"],
        run=card["run"],
        rows=card["sample"]["rows"],
        samples=card["sample"]["samples"],
        number=len(card["cpu_seconds"]),
        seeds=", ".join(card["cpu_seconds"]),
        does=table("copy_", "first_", "second_", "text_", "in_context"),
        attend=table("previous_token", "current_token", "prefix_"),
        ablated=table("without_", "zeroed_"),
        paths=table("previous_unread", "current_unread"),
        head_table="\n\n".join(
            f"Seed {seed}:\n\n{_head_table(each['scores'])}"
            for seed, each in sorted(card["heads"].items(), key=lambda item: item[0] != str(recipe["seed"]))
        ),
        bump=_bump_width(card["curves"]),
        bump_table=_bump_table(card["checkpoints"]),
    )


def _measured_table(entries: dict[str, Any]) -> str:
    lines = ["| measure | value | interval | seeds: mean (range) |", "|---|---|---|---|"]
    for entry in entries.values():
        low, high = entry["interval"]
        least, most = entry["seeds_range"]
        lines.append(
            f"| {entry['what']} | {entry['value']:.3f} | {low:.3f} … {high:.3f} "
            f"| {entry['seeds_mean']:.3f} ({least:.3f} … {most:.3f}) |"
        )
    return "\n".join(lines)


def _head_table(scores: dict[str, list[list[float]]]) -> str:
    names = list(scores)
    lines = ["| head | " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for layer, row in enumerate(scores[names[0]]):
        for head in range(len(row)):
            cells = " | ".join(f"{scores[name][layer][head]:.2f}" for name in names)
            lines.append(f"| {layer}.{head} | {cells} |")
    return "\n".join(lines)


def _bump_table(checkpoints: list[dict[str, Any]]) -> str:
    names = [name for name in checkpoints[0] if name != "step"]
    lines = ["| step | " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {each['step']} | " + " | ".join(f"{each[name]:.2f}" for name in names) + " |" for each in checkpoints]
    lines[-1] += (
        "\n\nThe last row is the model itself. Scores are those of the strongest head of layer 0, and of layer 1."
    )
    return "\n".join(lines)


def _bump_width(curves: dict[str, list[list[float]]]) -> str:
    """Count the steps from a tenth to three quarters, in every seed."""
    widths = []
    for curve in curves.values():
        start = next(step for step, accuracy in curve if accuracy >= 0.1)
        end = next(step for step, accuracy in curve if accuracy >= 0.75)
        widths.append(int(end - start))
    return f"{min(widths)} to {max(widths)}" if min(widths) < max(widths) else str(widths[0])
