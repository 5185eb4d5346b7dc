"""One library in a process of its own: loads the model, and does one task whenever it is told to.

`python -m bench.library LIBRARY FOLDER TASK LENGTH BATCH`. The interpreter needs that library alone: interpwidgets is
not imported for the others. Every line that comes in is a run; the answer is a line of JSON, see `Run`.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

Values = list[float]
Task = Callable[[Any, Any], Values]  # (clean, corrupted) token ids [batch, pos] -> a sweep's metric of each cell

FEW = ("resid_pre", "resid_post", "q", "k")  # what interpwidgets records unless told otherwise
MANY = ("resid_pre", "resid_mid", "resid_post", "q", "k", "v", "z", "mlp_post")
SWEEPS = ("positions", "heads", "attribution")
RIGHT, WRONG = 1, 2  # tokens of the metric: their logit difference at the last position


class Run(TypedDict):
    """What a run took, and found."""

    cpu: float
    wall: float
    peak: int  # bytes, of the whole process in its runs until now
    rate: float  # FLOP per CPU second of a matrix product in the same process; 0 unless asked
    values: Values


def interpwidgets(folder: Path) -> dict[str, Task]:
    """Ours, and the plain module that all of them drive."""
    import interpwidgets as iw

    module = load(folder)
    model = iw.load((module, None))
    metric = iw.logit_diff(RIGHT, WRONG)

    def recorded(sites: tuple[str, ...]) -> Task:
        return lambda ids, _: nothing(iw.record(model, ids, sites=sites))

    def sweep(function: Any, over: str) -> Task:
        def swept(clean: Any, corrupted: Any) -> Values:
            options = {} if function is not iw.patch_sweep else {"progress": False}
            effects = function(model, clean, corrupted, metric, over=over, **options)
            return [float(value) for value in effects.values.mean(-1).ravel()]

        return swept

    return {
        "forward": lambda ids, _: nothing(module(input_ids=ids, use_cache=False)),
        "last": lambda ids, _: nothing(module(input_ids=ids, use_cache=False, logits_to_keep=1)),
        "record": recorded(FEW),
        "record-many": recorded(MANY),
        "positions": sweep(iw.patch_sweep, "resid_pre"),
        "heads": sweep(iw.patch_sweep, "z"),
        "attribution": sweep(iw.attribution_patch, "resid_pre"),
    }


def transformer_lens(folder: Path) -> dict[str, Task]:
    """TransformerLens' bridge to the same weights, and its own patching functions."""
    from transformer_lens import patching
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = TransformerBridge.boot_transformers(str(folder), hf_model=load(folder), tokenizer=tokenizer)

    def recorded(sites: tuple[str, ...]) -> Task:
        inside = {"q": "attn.", "k": "attn.", "v": "attn.", "z": "attn."}
        hooks = tuple("mlp.hook_post" if site == "mlp_post" else f"{inside.get(site, '')}hook_{site}" for site in sites)
        return lambda ids, _: nothing(model.run_with_cache(ids, names_filter=lambda name: name.endswith(hooks)))

    def sweep(function: Any) -> Task:
        def swept(clean: Any, corrupted: Any) -> Values:
            _, cache = model.run_with_cache(clean)
            found = function(model, corrupted, cache, difference)
            return [float(value) for value in found.flatten()]

        return swept

    return {
        "record": recorded(FEW),
        "record-many": recorded(MANY),
        "positions": sweep(patching.get_act_patch_resid_pre),
        "heads": sweep(patching.get_act_patch_attn_head_out_all_pos),
    }


def nnsight(folder: Path) -> dict[str, Task]:
    """nnsight around the same module; the sweeps are the loop of its tutorial, a trace a cell."""
    from nnsight import LanguageModel
    from transformers import AutoTokenizer

    model = LanguageModel(load(folder), tokenizer=AutoTokenizer.from_pretrained(folder))
    blocks = model.transformer.h
    width = model.config.n_embd // model.config.n_head

    def record(ids: Any, _: Any) -> Values:
        with model.trace(ids):
            [(block.input, block.attn.c_attn.output, block.output) for block in blocks].save()
        return []

    def record_many(ids: Any, _: Any) -> Values:
        with model.trace(ids):
            [
                (
                    block.input, block.attn.c_attn.output, block.attn.c_proj.input, block.ln_2.input,
                    block.mlp.act.output, block.output,
                )
                for block in blocks
            ].save()  # fmt: skip
        return []

    def positions(clean: Any, corrupted: Any) -> Values:
        with model.trace(clean):
            streams = [block.input.clone() for block in blocks].save()
        found = []
        for layer in range(len(streams)):
            for pos in range(clean.shape[1]):
                with model.trace(corrupted):
                    blocks[layer].input[:, pos] = streams[layer][:, pos]
                    value = difference(model.lm_head.output).item().save()
                found.append(value)
        return found

    def heads(clean: Any, corrupted: Any) -> Values:
        with model.trace(clean):
            mixed = [block.attn.c_proj.input.clone() for block in blocks].save()
        found = []
        for layer in range(len(mixed)):
            for start in range(0, mixed[layer].shape[-1], width):
                with model.trace(corrupted):
                    blocks[layer].attn.c_proj.input[..., start : start + width] = mixed[layer][
                        ..., start : start + width
                    ]
                    value = difference(model.lm_head.output).item().save()
                found.append(value)
        return found

    return {"record": record, "record-many": record_many, "positions": positions, "heads": heads}


LIBRARIES = {"interpwidgets": interpwidgets, "TransformerLens": transformer_lens, "nnsight": nnsight}


def load(folder: Path) -> Any:
    """The module that everybody is given."""
    from transformers import GPT2LMHeadModel

    return GPT2LMHeadModel.from_pretrained(folder).eval()


def difference(logits: Any) -> Any:
    """The metric, of one prompt's logits."""
    return logits[0, -1, RIGHT] - logits[0, -1, WRONG]


def nothing(_: Any) -> Values:
    """A pass has no values."""
    return []


def prompts(vocabulary: int, length: int, batch: int) -> tuple[Any, Any]:
    """Clean and corrupted token ids [batch, pos]: the same at position 0, drawn apart at all others."""
    import torch

    generator = torch.Generator().manual_seed(length)
    clean, corrupted = torch.randint(3, vocabulary, (2, batch, length), generator=generator)
    corrupted = corrupted.where(corrupted != clean, 3 + (corrupted - 2) % (vocabulary - 3))
    corrupted[:, 0] = clean[:, 0]
    return clean, corrupted


def matmul_rate() -> float:
    """FLOP per CPU second that this process reaches in a product of float32 matrices."""
    import torch

    left, right = torch.ones(1024, 768), torch.ones(768, 3072)
    torch.mm(left, right)
    started = time.process_time()
    for _ in range(5):
        torch.mm(left, right)
    return 5 * 2 * 1024 * 768 * 3072 / (time.process_time() - started)


def forget_peak() -> None:
    """Begin anew with the highest memory, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """The most that this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux counts the parent's in ru_maxrss
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Load, warm up, then run for every line."""
    library, folder, name, length, batch = sys.argv[1], Path(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:6])
    answers, sys.stdout = sys.stdout, sys.stderr  # a library may print
    import torch

    torch.set_num_threads(1)
    task = LIBRARIES[library](folder)[name]
    clean, corrupted = prompts(json.loads((folder / "config.json").read_text())["vocab_size"], length, batch)
    with torch.no_grad() if name != "attribution" else torch.enable_grad():
        few = slice(1, 2) if name in SWEEPS else slice(None)  # a sweep of one position has seen all code
        task(clean[:, few], corrupted[:, few])
        forget_peak()  # loading takes more than most tasks
        answers.write("ready\n")
        answers.flush()
        with suppress(KeyboardInterrupt):
            for asked in sys.stdin:
                cpu, wall = time.process_time(), time.perf_counter()
                values = task(clean, corrupted)
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                rate = matmul_rate() if asked.strip() == "rate" else 0.0
                run = Run(cpu=cpu, wall=wall, peak=peak_memory(), rate=rate, values=values)
                answers.write(json.dumps(run) + "\n")
                answers.flush()


if __name__ == "__main__":
    main()
