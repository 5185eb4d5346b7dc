"""The parts of a block, found in every architecture that transformers can build, and shown to be the right ones."""

from __future__ import annotations

import copy
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from models import architectures, zoo
from torch import Tensor, nn
from transformers import PreTrainedModel

import interpwidgets as iw
from interpwidgets.models.anatomy import Anatomy, Block, Write

pytestmark = pytest.mark.filterwarnings("ignore")  # whatever an architecture has to say about itself

# What is left, and why. A family that leaves one of these lists is good news that the list has to be told.
UNBUILT = {
    "cohere_compass_text", "dots3_note", "dots3_note_text", "gemma3n", "gemma4_assistant", "gemma4_unified_assistant",
    "perceiver",
}  # fmt: skip
REFUSED = {  # no list of blocks, or no token embedding
    "albert", "blt", "funnel", "hrm_text", "ibert", "longcat_flash", "musicgen", "musicgen_melody",
}  # fmt: skip
UNKNOWN = {  # in some block at least, nothing adds up
    "beam", "deepseek_v4", "doge", "flaubert", "gemma3n_text", "gpt_neox_japanese", "hy_v4", "inkling2_text", "minimax",
    "mobilebert", "qwen4_exp", "qwen4_exp_text", "rwkv", "squeezebert", "xlm", "xlnet", "xmod", "zaya",
}  # fmt: skip

Found = tuple[PreTrainedModel, Anatomy]


@functools.cache
def found(family: str) -> Found:
    module = zoo.build(family)
    return module, Anatomy.of(module)


@pytest.fixture(params=[name for name in zoo.families() if name not in UNBUILT | REFUSED])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_part_is_held_to_its_equation_or_it_is_said_why_there_is_none(family: str) -> None:
    _, anatomy = found(family)
    assert len(anatomy.parts) == len(anatomy.blocks)
    kinds = [block.kind for block in anatomy.parts]
    assert ("unknown" in kinds) == (family in UNKNOWN)
    for block in anatomy.parts:
        assert all(error < 1e-3 for error in block.errors.values())
        has = {
            "resid_mid": "resid_mid" in block.errors,
            "attn_out": block.attn_out is not None,
            "mlp_out": block.mlp_out is not None,
            "z": block.z is not None,
            "mlp_post": block.down is not None,
            "mlp_pre": block.act is not None or block.up is not None,
            "pattern": block.interface,
        }
        assert has == {site: site not in block.why for site in has}
        assert all(reason.endswith(".") for reason in block.why.values())
        if block.kind != "unknown":
            assert "resid_post" in block.errors
    assert type(anatomy.module).__name__ in repr(anatomy)


@pytest.mark.parametrize("family", sorted(REFUSED))
def test_a_model_without_the_parts_that_a_recording_needs_is_refused(family: str) -> None:
    with pytest.raises(iw.InputError, match=r"no list of its|no token embedding"):
        found(family)


@pytest.mark.parametrize("family", sorted(UNBUILT))
def test_what_cannot_be_built_still_cannot(family: str) -> None:
    with pytest.raises(zoo.CannotBuild):
        zoo.build(family)


@pytest.mark.parametrize("family", ["bart", "t5", "marian"])
def test_two_stacks_are_refused(family: str) -> None:
    import transformers

    head = getattr(transformers, zoo.SEQ2SEQ[family])
    with pytest.raises(iw.InputError, match="encoder and a decoder"):
        Anatomy.of(zoo.build(family, head))


# -- the right modules: other numbers out of them move the stream as the equations say


def first(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def replace(output: Any, value: Tensor) -> Any:
    return value if isinstance(output, Tensor) else type(output)((value, *output[1:]))


@contextmanager
def hooked(module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def outputs(anatomy: Anatomy, heard: dict[str, nn.Module], swapped: dict[nn.Module, Callable[[Tensor], Tensor]]) -> Any:
    """What modules returned in a pass in which others return something else than they would."""
    values: dict[str, Tensor] = {}
    with ExitStack() as stack, torch.no_grad():
        for module, change in swapped.items():
            stack.enter_context(
                hooked(module, lambda _, __, output, change=change: replace(output, change(first(output))))
            )
        for name, module in heard.items():
            stack.enter_context(
                hooked(module, lambda _, __, output, name=name: values.__setitem__(name, first(output).clone()))
            )
        options = {"use_cache": False} if "use_cache" in inspect.signature(anatomy.base.forward).parameters else {}
        anatomy.base(torch.arange(3, 14)[None], **options)
    return values


def test_without_what_attention_writes_the_stream_lacks_just_that(family: str) -> None:
    _, anatomy = found(family)
    block = next((b for b in anatomy.parts if b.attn_out and b.mlp_out and b.kind in ("sequential", "parallel")), None)
    if block is None:
        return
    attn, mlp = block.attn_out, block.mlp_out
    assert isinstance(attn, Write)
    assert isinstance(mlp, Write)
    heard = {"post": block.module, "attn": attn.module, "mlp": mlp.module}
    plain = outputs(anatomy, heard, {})
    changed = outputs(anatomy, heard, {attn.module: torch.zeros_like, mlp.module: lambda _: plain["mlp"]})
    lacking = plain["post"] - attn.scale * plain["attn"].reshape(plain["post"].shape)
    torch.testing.assert_close(changed["post"], lacking, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(plain["post"], lacking, atol=1e-2)
    changed = outputs(anatomy, heard, {mlp.module: torch.zeros_like})
    lacking = plain["post"] - mlp.scale * plain["mlp"].reshape(plain["post"].shape)
    torch.testing.assert_close(changed["post"], lacking, rtol=1e-4, atol=1e-4)


def test_without_what_attention_writes_a_post_norm_block_norms_the_stream_alone(family: str) -> None:
    _, anatomy = found(family)
    block = next((b for b in anatomy.parts if b.attn_out and b.kind == "post-norm" and not b.mixers), None)
    if block is None:
        return
    assert isinstance(block.attn_out, Write)
    assert isinstance(block.mid, nn.Module)
    pre: list[Tensor] = []
    handle = block.module.register_forward_pre_hook(
        lambda _, args, kwargs: pre.append((args[0] if args else kwargs["hidden_states"]).clone()), with_kwargs=True
    )
    changed = outputs(anatomy, {"mid": block.mid}, {block.attn_out.module: torch.zeros_like})
    handle.remove()
    with torch.no_grad():
        torch.testing.assert_close(changed["mid"], block.mid(pre[0]), rtol=1e-4, atol=1e-4)


def test_without_the_activation_nothing_reaches_the_last_map_of_the_mlp(family: str) -> None:
    _, anatomy = found(family)
    block = next((b for b in anatomy.parts if b.act or b.up), None)
    if block is None:
        return
    active = block.act or block.up
    assert active is not None
    assert block.down is not None
    given: list[Tensor] = []
    handle = block.down.register_forward_pre_hook(lambda _, args: given.append(args[0].clone()))
    outputs(anatomy, {}, {})
    outputs(anatomy, {}, {active: torch.zeros_like})
    handle.remove()
    assert given[0].shape[-1] == block.d_mlp
    assert given[0].any()
    assert not given[1].any()


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "gpt_neox", "falcon", "gemma2", "deepseek_v3", "bloom"])
def test_a_head_without_its_z_writes_what_w_o_says_less(family: str) -> None:
    _, anatomy = found(family)
    block = anatomy.parts[1]
    assert block.z is not None
    assert block.heads == 4
    w_o = anatomy.w_o(1)
    given: list[Tensor] = []

    def silence(_: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        z = args[0].clone()
        given.append(z.clone().unflatten(-1, (4, -1)))
        z.unflatten(-1, (4, -1))[..., 2, :] = 0
        return (z,)

    plain = outputs(anatomy, {"out": block.z}, {})
    handle = block.z.register_forward_pre_hook(silence)
    changed = outputs(anatomy, {"out": block.z}, {})
    handle.remove()
    torch.testing.assert_close(plain["out"] - changed["out"], given[0][..., 2, :] @ w_o[2], rtol=1e-4, atol=1e-4)
    assert anatomy.w_out(0).shape == (anatomy.parts[0].d_mlp, 32)


@pytest.mark.parametrize(
    ("family", "kind", "facts"),
    [
        ("gpt2", "sequential", {"attn_out": "attn", "ln1": "ln_1", "ln2": "ln_2", "act": "mlp.act", "kv_heads": 4}),
        ("llama", "sequential", {"z": "self_attn.o_proj", "down": "mlp.down_proj", "kv_heads": 2, "d_head": 8}),
        ("gemma2", "sequential", {"attn_out": "post_attention_layernorm", "mlp_out": "post_feedforward_layernorm"}),
        ("glm4", "sequential", {"attn_out": "post_self_attn_layernorm", "mlp_out": "post_mlp_layernorm"}),
        ("olmo2", "sequential", {"attn_out": "post_attention_layernorm", "ln1": None, "ln2": None}),
        ("gpt_neox", "parallel", {"ln1": "input_layernorm", "ln2": "post_attention_layernorm", "mid": None}),
        ("gptj", "parallel", {"ln1": "ln_1", "ln2": "ln_1", "attention": "attn", "interface": False}),
        ("phi", "parallel", {"attn_out": "self_attn", "mlp_out": "mlp"}),  # whose one dropout both pass through
        ("bert", "post-norm", {"attn_out": "attention.output.dropout", "mid": "attention.output.LayerNorm"}),
        ("bloom", "sequential", {"attn_out": "self_attention.dense", "z": "self_attention.dense"}),
        ("bitnet", "sequential", {"act": "mlp.act_fn"}),  # a norm lies between it and the last linear map
        ("mamba", "sequential", {"attention": None, "attn_out": None, "mlp_out": None}),
        ("mixtral", "sequential", {"down": None, "mlp_out": "mlp"}),
    ],
)
def test_the_parts_have_the_names_that_the_code_gives_them(family: str, kind: str, facts: dict[str, Any]) -> None:
    _, anatomy = found(family)
    for block in anatomy.parts:
        names = {part: name for name, part in block.module.named_modules()}
        shown = {name: getattr(block, name) for name in facts}
        shown = {name: value.module if isinstance(value, Write) else value for name, value in shown.items()}
        assert {name: names.get(value, value) for name, value in shown.items()} == facts
        assert block.kind == kind


class Packed(nn.Module):
    """A linear map whose weight is kept in eight bits, and an adapter."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("packed", (linear.weight.detach() * 100).round().to(torch.int8).flatten())
        self.lora = nn.Parameter(torch.linspace(-1, 1, self.in_features * self.out_features))

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.packed / 100 + self.lora).reshape(self.out_features, self.in_features).T


def test_a_packed_weight_is_read_by_what_it_does() -> None:
    module = zoo.build("llama")
    for layer in module.model.layers:
        layer.self_attn.o_proj, layer.mlp.down_proj = Packed(layer.self_attn.o_proj), Packed(layer.mlp.down_proj)
    anatomy = Anatomy.of(module)
    for index, layer in enumerate(module.model.layers):
        assert anatomy.parts[index].z is layer.self_attn.o_proj
        assert anatomy.parts[index].down is layer.mlp.down_proj
        z = torch.randn(5, 4, 8)
        made = torch.einsum("phd,hdm->pm", z, anatomy.w_o(index))
        torch.testing.assert_close(made, layer.self_attn.o_proj(z.flatten(-2)), rtol=1e-4, atol=1e-4)
        assert anatomy.w_out(index).shape == (48, 32)


def test_what_is_not_linear_is_no_output_projection() -> None:
    module = zoo.build("llama")
    for layer in module.model.layers:
        layer.self_attn.o_proj.__class__ = Bent
    anatomy = Anatomy.of(module)
    assert all(block.z is None and "not the linear map" in block.why["z"] for block in anatomy.parts)
    with pytest.raises(iw.InputError, match=r"Layer 0 .* has no W_O"):
        anatomy.w_o(0)


class Bent(nn.Linear):
    """Says it is linear."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).tanh()


def test_granite_multiplies_what_it_adds() -> None:
    module = zoo.build("granite", residual_multiplier=0.22)
    for block in Anatomy.of(module).parts:
        assert block.attn_out is not None
        assert block.attn_out.scale == pytest.approx(0.22, rel=1e-5)
        assert block.mlp_out is not None
        assert block.mlp_out.scale == pytest.approx(0.22, rel=1e-5)


def test_a_stack_of_different_blocks() -> None:
    _, anatomy = found("recurrent_gemma")
    assert {bool(block.mixers) for block in anatomy.parts} == {True, False}
    assert all(block.why["z"] for block in anatomy.parts if block.mixers)
    assert len(repr(anatomy).splitlines()) > 3


# -- what the model is like beforehand and afterwards


def test_an_mlp_of_zeros_is_found() -> None:
    module = zoo.build("gpt2")
    with torch.no_grad():
        for block in module.transformer.h:
            block.mlp.c_proj.weight.zero_()
            block.mlp.c_proj.bias.zero_()
    for block, part in zip(module.transformer.h, Anatomy.of(module).parts, strict=True):
        assert part.kind == "sequential"
        assert part.mlp_out is not None
        assert part.mlp_out.module is block.mlp


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "gpt_neox", "gemma2"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_finds_the_same(family: str, dtype: torch.dtype) -> None:
    module, anatomy = found(family)
    half = Anatomy.of(copy.deepcopy(module).to(dtype))
    assert [shape(block) for block in half.parts] == [shape(block) for block in anatomy.parts]


def shape(block: Block) -> dict[str, Any]:
    names = {part: name for name, part in block.module.named_modules()}
    parts = {name: getattr(block, name) for name in ("attention", "mid", "ln1", "ln2", "z", "down", "act", "up")}
    writes = {name: write.module for name in ("attn_out", "mlp_out") if (write := getattr(block, name))}
    return {"kind": block.kind} | {name: part and names[part] for name, part in (parts | writes).items()}


def test_numbers_that_are_not_finite_prove_nothing() -> None:
    module = zoo.build("gpt2")
    with torch.no_grad():
        module.transformer.h[0].attn.c_proj.weight[0, 0] = torch.nan
    assert all(block.kind == "unknown" or not block.errors for block in Anatomy.of(module).parts)


@pytest.mark.parametrize("family", ["gpt2", "bert", "mamba"])
def test_the_model_is_left_as_it_was(family: str) -> None:
    module = zoo.build(family).train()
    module.base_model.get_input_embeddings().eval()
    before = {name: part.training for name, part in module.named_modules()}
    setting, state = module.config._attn_implementation, torch.get_rng_state()
    assert Anatomy.of(module).parts
    assert {name: part.training for name, part in module.named_modules()} == before
    assert module.config._attn_implementation == setting
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_a_model_that_fails_is_left_as_it_was() -> None:
    module = zoo.build("gpt2").train()
    module.transformer.h[1].mlp.c_fc.weight = nn.Parameter(torch.zeros(3, 3))
    with pytest.raises(RuntimeError):
        _ = Anatomy.of(module).parts
    assert module.training
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_two_threads_find_one_anatomy() -> None:
    anatomy = Anatomy.of(zoo.build("llama"))
    seen: list[tuple[Block, ...]] = []
    threads = [threading.Thread(target=lambda: seen.append(anatomy.parts)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 3
    assert all(parts is seen[0] for parts in seen)


def test_the_page_of_architectures_is_what_is_found_today() -> None:
    page = architectures.PAGE.read_text(encoding="utf-8")
    assert page == architectures.page(lambda family: found(family)[1]), "run `make architectures`"


def test_what_was_verified_is_a_table() -> None:
    _, anatomy = found("deepseek_v3")
    table = repr(anatomy.verified).splitlines()
    assert table[0].split() == ["site", "largest", "error", "layers"]
    assert [line.split()[-1] for line in table[1:]] == ["all", "all", "all", "0"]  # experts from layer 1
    with pytest.raises(iw.InputError, match=r"Layer 1 .* has no W_out. .*experts"):
        anatomy.w_out(1)
