"""A feature store beside SAEDashboard: the same model, dictionary and tokens, each in a process of its own.

`python -m bench.dashboard ours|theirs FOLDER`: whoever builds finds model, dictionary and tokens in the folder, and
answers with a line of JSON, see `Built`. SAEDashboard may be another interpreter's, which needs no interpwidgets:
BENCH_SAEDASHBOARD.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, TypedDict

from bench.library import forget_peak, peak_memory
from bench.report import ROOT, Table, number, size, times

PYTHON = os.environ.get("BENCH_SAEDASHBOARD", sys.executable)
HOW = (
    "Make an environment for it, `python -m venv build/dashboard`; with its pip, install `torch sae-dashboard "
    "'pyarrow<20'` and uninstall `torchvision torchaudio`, which come with it and keep it from being imported; and run "
    "again with BENCH_SAEDASHBOARD=build/dashboard/bin/python."
)
AT_A_TIME = 128  # features and prompts a batch, as SAEDashboard's runner for Neuronpedia has them
PROMPTS = 32
DEFAULT = 24_576 * 128  # tokens, that runner's own default
QUICK, WIDE = 8_192, 4_096  # tokens of a quick run, and features of the wider dictionary


class Built(TypedDict):
    """What building took, and came to."""

    name: str
    cpu: float
    before: int  # bytes of the process with model and dictionary loaded
    peak: int  # bytes
    bytes: int
    gzipped: int
    largest: list[float]  # activation of each feature


def cases(tokens: int) -> list[tuple[int, int]]:
    """(features, tokens) to compare at; 0 features are storyteller-4l's own 512.

    What theirs costs a feature hardly shrinks with few tokens; of many, running the model is half of ours, so that
    nothing could be much cheaper. A full run has as many as their runner takes by default, where we are the weakest.
    """
    found = [(0, tokens)]
    if tokens >= QUICK:
        found += [(WIDE, tokens)]
    return [*found, (0, DEFAULT)] if tokens > QUICK else found


def compare(which: list[tuple[int, int]]) -> tuple[Table, float | None]:
    """Both builds of each case, and how many times more CPU SAEDashboard's takes at least; None if it is not there."""
    table = Table(
        "The same features of the same tokens, by SAEDashboard",
        ["features", "tokens", "by", "CPU", "a feature", "÷ ours", "peak memory", "bytes a feature", "gzipped"],
        [],
    )
    ratios, apart, largest, missing = [], 0.0, 0.0, ""
    for features, tokens in which:
        with tempfile.TemporaryDirectory() as folder:
            give(Path(folder), tokens, features)
            mine, why_not = build("ours", sys.executable, folder)
            if mine is None:
                raise RuntimeError(f"the feature store: {why_not}")
            theirs, why_not = build("theirs", PYTHON, folder)
        given = [f"{len(mine['largest']):,}", f"{tokens:,}"]
        table.rows.append([*given, *cells(mine, mine)])
        if theirs is None:
            table.rows.append([*given, "SAEDashboard", "not measured", *["–"] * 5])
            missing = f"SAEDashboard is not measured: {why_not}. {HOW}"
            continue
        table.rows.append([*given, *cells(theirs, mine)])
        ratios.append(theirs["cpu"] / mine["cpu"])
        largest = max(largest, *mine["largest"])
        apart = max(apart, *(abs(a - b) for a, b in zip(mine["largest"], theirs["largest"], strict=True)))
    table.notes = [
        f"The model is storyteller-4l, the dictionary its ReLU one of 512 features, or {WIDE:,} random directions that "
        "are each active at a hundredth of the tokens; decoder norms folded, in SAELens' layout. One thread; CPU of "
        "everything after imports and loading, writing included, divided by the features. SAEDashboard's loop and "
        f"settings are those of its runner for Neuronpedia: {AT_A_TIME} features at a time, the model's activations "
        "kept on disk after the first pass, 20 top examples and 5 from each of 5 intervals, whole contexts, "
        f"{DEFAULT:,} tokens by default; its bytes are the JSON of a batch. Ours keeps 5 of each of 10 groups, "
        "neighbours over the whole dictionary, records, offsets and index, and the tokens once, at 4 bytes each."
    ]
    if missing:
        table.notes.append(missing)
    else:
        table.notes.append(
            f"They agree on what was computed: the largest activations of a feature, up to {number(largest)}, "
            f"differ by {apart:.1e} at most; SAEDashboard rounds to a thousandth."
        )
    return table, min(ratios, default=None)


def cells(one: Built, ours: Built) -> list[str]:
    """What a row says of who built."""
    count = len(one["largest"])
    return [
        one["name"],
        f"{number(one['cpu'])} s",
        f"{number(1e3 * one['cpu'] / count)} ms",
        times(ours["cpu"], one["cpu"]),
        f"{size(one['peak'])} ({size(one['before'])} before)",
        *(f"{number(one[what] / count)} B" for what in ("bytes", "gzipped")),
    ]


def build(who: str, python: str, folder: str) -> tuple[Built | None, str]:
    """What a process of its own has built, or why it has not."""
    command = [python, "-m", "bench.dashboard", who, folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1].rstrip(".")
    built: Built = json.loads(done.stdout)
    return built, ""


def give(folder: Path, tokens: int, features: int = 0) -> None:
    """Write what both are given: contexts of 128 tokens, a model and a dictionary, its own if no number is given."""
    import interpwidgets as iw

    model = iw.load("storyteller-4l")
    model.module.save_pretrained(folder / "model")
    model.tokenizer.save_pretrained(folder / "model")
    rows = iw.load_corpus("storyteller-4l", contexts=tokens // 128, seed=7)
    (folder / "tokens.json").write_text(json.dumps(rows))
    own = iw.load_dictionary("storyteller-4l-sae", "resid_post.1.l1").folded()
    one = made_up(model, own, features, rows[:16]) if features else own
    one.save(folder / "dictionary")


def made_up(model: Any, like: Any, features: int, rows: list[list[int]]) -> Any:
    """A ReLU dictionary of random directions, each active at a hundredth of the tokens."""
    import torch

    import interpwidgets as iw
    from interpwidgets.models.splice import read

    torch.manual_seed(0)
    found = iw.Dictionary(
        like.d_in, features, kind="relu", site=like.site, layer=like.layer, model=like.model, metadata=like.metadata
    )
    with torch.no_grad():
        x = read(model, torch.tensor(rows), like.reads)[like.reads[0]].flatten(0, 1)
        found.W_dec.copy_(torch.nn.functional.normalize(torch.randn(features, like.d_in), dim=1))
        found.W_enc.copy_(found.W_dec.T)
        found.b_dec.copy_(x.mean(0))
        found.b_enc.copy_(-found.before(x).quantile(0.99, dim=0))
    return found.requires_grad_(False)


def ours(folder: Path, rows: list[list[int]]) -> Built:
    """A feature store."""
    import interpwidgets as iw
    from interpwidgets.features import FeatureStore

    for name in ("duckdb", "pandas", "pyarrow.parquet", "scipy.sparse", "zstandard"):
        import_module(name)  # as SAEDashboard's imports, they are not counted
    model, one = iw.load(folder / "model"), iw.load_dictionary(folder / "dictionary")
    assert model.anatomy.parts
    before = begin()
    started = time.process_time()
    store = FeatureStore.build(folder / "store", model, one, rows, progress=False)
    spent = time.process_time() - started
    files = [store.folder / name for name in ("records.bin", "offsets.bin", "index.parquet")]
    return measured("interpwidgets", spent, before, files, [feature.max for feature in store])


def theirs(folder: Path, rows: list[list[int]]) -> Built:
    """What SAEDashboard's NeuronpediaRunner does once it has a model and tokens; it takes both from a hub alone."""
    import torch
    from sae_dashboard import components_config as show
    from sae_dashboard.layout import SaeVisLayoutConfig
    from sae_dashboard.neuronpedia.neuronpedia_converter import NeuronpediaConverter
    from sae_dashboard.neuronpedia.neuronpedia_runner_config import NeuronpediaRunnerConfig
    from sae_dashboard.sae_vis_data import SaeVisConfig
    from sae_dashboard.sae_vis_runner import SaeVisRunner
    from sae_lens import SAE

    model, sae, tokens = hooked(folder / "model"), SAE.load_from_disk(folder / "dictionary"), torch.tensor(rows)
    words = {index: word for word, index in model.tokenizer.vocab.items()}
    column = show.Column(
        show.SequencesConfig(
            stack_mode="stack-all", buffer=None, n_quantiles=5, top_acts_group_size=20, quantile_group_size=5
        ),
        show.ActsHistogramConfig(),
        show.LogitsHistogramConfig(),
        show.LogitsTableConfig(),
        show.FeatureTablesConfig(n_rows=3),
    )
    about = NeuronpediaRunnerConfig(
        "bench", "", "", model_id="storyteller-4l", layer=1, n_prompts_total=len(rows), n_tokens_in_prompt=len(rows[0])
    )
    before = begin()
    started = time.process_time()
    files = []
    with torch.no_grad():
        for first in range(0, sae.cfg.d_sae, AT_A_TIME):
            settings = SaeVisConfig(
                hook_point=sae.cfg.metadata.hook_name,
                features=list(range(first, min(first + AT_A_TIME, sae.cfg.d_sae))),
                minibatch_size_features=AT_A_TIME,
                minibatch_size_tokens=PROMPTS,
                feature_centric_layout=SaeVisLayoutConfig(columns=[column]),
                cache_dir=folder / "activations",
                ignore_tokens={model.tokenizer.pad_token_id, model.tokenizer.bos_token_id},
            )
            found = SaeVisRunner(settings).run(encoder=sae, model=model, tokens=tokens)
            files.append(folder / f"batch-{len(files)}.json")
            files[-1].write_text(NeuronpediaConverter.convert_to_np_json(model, found, about, words))
    spent = time.process_time() - started
    features = [feature for file in files for feature in json.loads(file.read_text())["features"]]
    largest = [max(max(shown["values"]) for shown in feature["activations"]) for feature in features]
    return measured("SAEDashboard", spent, before, files, largest)


def hooked(folder: Path) -> Any:
    """The model in TransformerLens, of GPT-2's weights as they are."""
    from sae_lens import HookedSAETransformer
    from transformer_lens import HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

    module = GPT2LMHeadModel.from_pretrained(folder)
    given = module.config
    shape = HookedTransformerConfig(
        n_layers=given.n_layer, d_model=given.n_embd, n_ctx=given.n_positions, d_head=given.n_embd // given.n_head,
        n_heads=given.n_head, d_vocab=given.vocab_size, act_fn="gelu_new", eps=given.layer_norm_epsilon,
        normalization_type="LN", device="cpu",
    )  # fmt: skip
    model = HookedSAETransformer(shape)
    model.load_state_dict(convert_gpt2_weights(module, shape), strict=False)  # it has masks that are no weights
    model.tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), bos_token="<bos>", pad_token="<pad>"
    )
    return model.eval()


def begin() -> int:
    """Forget the peak of loading, and answer what is held now, in bytes."""
    forget_peak()
    return peak_memory()


def measured(name: str, spent: float, before: int, files: list[Path], largest: list[float]) -> Built:
    """Everything, once it is built."""
    peak = peak_memory()
    data = [file.read_bytes() for file in files]
    return Built(
        name=name,
        cpu=spent,
        before=before,
        peak=peak,
        bytes=sum(map(len, data)),
        gzipped=sum(len(gzip.compress(each, 6)) for each in data),
        largest=largest,
    )


def main() -> None:
    """Build, and say what it took."""
    import torch

    torch.set_num_threads(1)
    who, folder = sys.argv[1], Path(sys.argv[2])
    rows = json.loads((folder / "tokens.json").read_text())
    with redirect_stdout(sys.stderr):  # a library may print
        built = {"ours": ours, "theirs": theirs}[who](folder, rows)
    print(json.dumps(built))


if __name__ == "__main__":
    main()
