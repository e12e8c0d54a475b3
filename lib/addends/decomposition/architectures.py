"""The architectures table: one row a model family says where its layers keep what a decomposition needs.

The fields of a row are those of `addends.decomposition.architecture`. Nothing else in this package depends on how a
family spells its modules. Supporting another family therefore means registering its row, and seeing the exactness check
pass on its own weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
from transformers import PretrainedConfig

from addends.checks import check_choice
from addends.decomposition.architecture import Architecture, Attention, FeedForward, Stack
from addends.errors import InputError, UnsupportedModelError

# --- encoder-decoders ---


def _bart_like(model_type: str, norm: str, embedding_norm: bool, final_norm: bool) -> Architecture:
    """BART's spelling, which Marian, mBART, M2M100 and Pegasus share: they differ in their norms."""
    own = Attention("T", "own", "self_attn", "self_attn.v_proj", "self_attn.out_proj", "self_attn_layer_norm")
    cross = Attention(
        "S", "encoder", "encoder_attn", "encoder_attn.v_proj", "encoder_attn.out_proj", "encoder_attn_layer_norm"
    )
    feed_forward = FeedForward("F", "fc1", "activation_fn", "fc2", "final_layer_norm")

    def stack(path: str, *sublayers: Attention | FeedForward) -> Stack:
        return Stack(
            f"{path}.layers",
            sublayers,
            norm,
            embedding_norm=f"{path}.layernorm_embedding" if embedding_norm else None,
            final_norm=f"{path}.layer_norm" if final_norm else None,
        )

    return Architecture(
        model_type,
        "AutoModelForSeq2SeqLM",
        stack=stack("decoder", own, cross, feed_forward),
        encoder=stack("encoder", own, feed_forward),
    )


def _t5(model_type: str) -> Architecture:
    own, cross = (
        Attention(term, reads, module, f"{module}.v", f"{module}.o", f"layer.{place}.layer_norm")
        for place, (term, reads, module) in enumerate(
            (("T", "own", "layer.0.SelfAttention"), ("S", "encoder", "layer.1.EncDecAttention"))
        )
    )

    def feed_forward(place: int) -> FeedForward:
        inner = f"layer.{place}.DenseReluDense"
        return FeedForward("F", f"{inner}.wi", f"{inner}.act", f"{inner}.wo", f"layer.{place}.layer_norm")

    return Architecture(
        model_type,
        "AutoModelForSeq2SeqLM",
        stack=Stack("decoder.block", (own, cross, feed_forward(2)), "pre", None, "decoder.final_layer_norm"),
        encoder=Stack("encoder.block", (own, feed_forward(1)), "pre", None, "encoder.final_layer_norm"),
        positions=None,  # relative
        variant=_gated_t5,
    )


def _gated_t5(row: Architecture, config: Any) -> Architecture:
    """A gated feed-forward has two first maps, of other names than the plain one's."""

    def either(sublayer: Attention | FeedForward) -> Attention | FeedForward:
        if isinstance(sublayer, Attention):
            return sublayer
        inner = sublayer.first.rpartition(".")[0]
        if config.is_gated_act:
            return replace(sublayer, first=f"{inner}.wi_1", gate=f"{inner}.wi_0")
        return replace(sublayer, first=f"{inner}.wi", gate=None)

    def stack(plain: Stack) -> Stack:
        return replace(plain, sublayers=tuple(either(sublayer) for sublayer in plain.sublayers))

    return replace(row, stack=stack(row.stack), encoder=None if row.encoder is None else stack(row.encoder))


def _longt5() -> Architecture:
    """T5's decoder. The encoder attends to blocks of its text, by code of its own: its states are atoms."""
    return replace(_t5("longt5"), encoder=Stack("encoder.block", (), "pre", None, "encoder.final_layer_norm"))


# --- encoders ---


def _encoder(model_type: str, layers: str, attention: Attention, feed_forward: FeedForward) -> Architecture:
    stack = Stack(layers, (attention, feed_forward), embedding_norm="embeddings.LayerNorm")
    return Architecture(model_type, "AutoModel", stack, causal=False)


def _bert_like(model_type: str) -> Architecture:
    attention = Attention(
        "T", "own", "attention.self", "attention.self.value", "attention.output.dense", "attention.output.LayerNorm"
    )
    feed_forward = FeedForward(
        "F", "intermediate.dense", "intermediate.intermediate_act_fn", "output.dense", "output.LayerNorm"
    )
    return _encoder(model_type, "encoder.layer", attention, feed_forward)


def _roberta(row: Architecture, config: Any) -> Architecture:
    """Positions begin behind the pad's id."""
    return replace(row, first_position=config.pad_token_id + 1)


def _electra(row: Architecture, config: Any) -> Architecture:
    """The small models map their normed embeddings to a larger size: what is decomposed begins behind that map."""
    norm = "embeddings.LayerNorm" if config.embedding_size == config.hidden_size else None
    return replace(row, stack=replace(row.stack, embedding_norm=norm))


def _bert_generation(row: Architecture, config: Any) -> Architecture:
    """As a decoder, the same layers read what came before alone."""
    auto_class = "AutoModelForCausalLM" if config.is_decoder else "AutoModel"
    return replace(row, causal=config.is_decoder, auto_class=auto_class)


_DISTILBERT = _encoder(
    "distilbert",
    "transformer.layer",
    Attention("T", "own", "attention", "attention.v_lin", "attention.out_lin", "sa_layer_norm"),
    FeedForward("F", "ffn.lin1", "ffn.activation", "ffn.lin2", "output_layer_norm"),
)

# --- decoder-only models ---


def _decoder(
    model_type: str,
    layers: str,
    attention: Attention | FeedForward,
    feed_forward: Attention | FeedForward,
    final_norm: str,
    parallel: bool = False,
    variant: Callable[[Architecture, Any], Architecture] | None = None,
) -> Architecture:
    stack = Stack(layers, (attention, feed_forward), "pre", final_norm=final_norm, parallel=parallel)
    return Architecture(model_type, "AutoModelForCausalLM", stack, variant=variant)


def _opt(row: Architecture, config: Any) -> Architecture:
    """The 350M model normalises after each sublayer and projects its embeddings; the others do neither.

    Where the last state is projected back to the embeddings' size, what is decomposed is the state before that.
    """
    pre = config.do_layer_norm_before
    stack = replace(
        row.stack,
        norm="pre" if pre else "post",
        final_norm="decoder.final_layer_norm" if pre and not config._remove_final_layer_norm else None,
        projection="decoder.project_out" if config.word_embed_proj_dim != config.hidden_size else None,
    )
    return replace(row, stack=stack)


def _gpt_neox(row: Architecture, config: Any) -> Architecture:
    return replace(row, stack=replace(row.stack, parallel=config.use_parallel_residual))


def _stablelm(row: Architecture, config: Any) -> Architecture:
    """In parallel, attention and feed-forward read one norm between them."""
    attention, feed_forward = row.stack.sublayers
    parallel = config.use_parallel_residual
    norm = attention.norm if parallel else "post_attention_layernorm"
    return replace(
        row, stack=replace(row.stack, sublayers=(attention, replace(feed_forward, norm=norm)), parallel=parallel)
    )


_GPT2 = _decoder(
    "gpt2",
    "h",
    Attention("T", "own", "attn", "attn.c_attn", "attn.c_proj", "ln_1", rows="thirds"),
    FeedForward("F", "mlp.c_fc", "mlp.act", "mlp.c_proj", "ln_2"),
    final_norm="ln_f",
)
_OPT = _decoder(
    "opt",
    "decoder.layers",
    Attention("T", "own", "self_attn", "self_attn.v_proj", "self_attn.out_proj", "self_attn_layer_norm"),
    FeedForward("F", "fc1", "activation_fn", "fc2", "final_layer_norm"),
    final_norm="decoder.final_layer_norm",
    variant=_opt,
)
_BIOGPT = replace(_OPT, model_type="biogpt", variant=None)
_BIOGPT = replace(_BIOGPT, stack=replace(_OPT.stack, layers="layers", final_norm="layer_norm"))
_LLAMA = _decoder(
    "llama",
    "layers",
    Attention("T", "own", "self_attn", "self_attn.v_proj", "self_attn.o_proj", "input_layernorm"),
    FeedForward("F", "mlp.up_proj", "mlp.act_fn", "mlp.down_proj", "post_attention_layernorm", gate="mlp.gate_proj"),
    final_norm="norm",
)
_STARCODER2 = _decoder(
    "starcoder2",
    "layers",
    Attention("T", "own", "self_attn", "self_attn.v_proj", "self_attn.o_proj", "input_layernorm"),
    FeedForward("F", "mlp.c_fc", "mlp.act", "mlp.c_proj", "post_attention_layernorm"),
    final_norm="norm",
)
_PHI = _decoder(
    "phi",
    "layers",
    Attention("T", "own", "self_attn", "self_attn.v_proj", "self_attn.dense", "input_layernorm"),
    FeedForward("F", "mlp.fc1", "mlp.activation_fn", "mlp.fc2", "input_layernorm"),
    final_norm="final_layernorm",
    parallel=True,
)
_GPT_NEOX = _decoder(
    "gpt_neox",
    "layers",
    Attention("T", "own", "attention", "attention.query_key_value", "attention.dense", "input_layernorm", rows="heads"),
    FeedForward("F", "mlp.dense_h_to_4h", "mlp.act", "mlp.dense_4h_to_h", "post_attention_layernorm"),
    final_norm="final_layer_norm",
    parallel=True,
    variant=_gpt_neox,
)

# --- the table ---

_AS_LLAMA = "mistral ministral qwen2 qwen3 smollm3 gemma helium seed_oss ernie4_5 hunyuan_v1_dense"
_FAMILIES = (
    _bart_like("marian", "post", embedding_norm=False, final_norm=False),
    _bart_like("bart", "post", embedding_norm=True, final_norm=False),
    _bart_like("plbart", "post", embedding_norm=True, final_norm=False),
    _bart_like("mbart", "pre", embedding_norm=True, final_norm=True),
    _bart_like("m2m_100", "pre", embedding_norm=False, final_norm=True),  # NLLB too
    _bart_like("pegasus", "pre", embedding_norm=False, final_norm=True),
    _bart_like("blenderbot", "pre", embedding_norm=False, final_norm=True),
    _t5("t5"),
    _t5("mt5"),
    _t5("umt5"),
    _longt5(),
    _bert_like("bert"),
    replace(_bert_like("roberta"), variant=_roberta),
    replace(_bert_like("xlm-roberta"), variant=_roberta),
    replace(_bert_like("camembert"), variant=_roberta),
    replace(_bert_like("electra"), variant=_electra),
    replace(_bert_like("bert-generation"), variant=_bert_generation),
    _DISTILBERT,
    _GPT2,
    _OPT,
    _BIOGPT,
    _LLAMA,
    *(replace(_LLAMA, model_type=name) for name in _AS_LLAMA.split()),
    replace(_LLAMA, model_type="stablelm", variant=_stablelm),
    _STARCODER2,
    _PHI,
    _GPT_NEOX,
)
_TABLE: dict[str, Architecture] = {row.model_type: row for row in _FAMILIES}


def architecture_of(config: PretrainedConfig) -> Architecture:
    """The row for a model with this configuration.

    Raises
    ------
    UnsupportedModelError
        If the table has none; the message lists those it has, and says how to try one of them and how to write one. Or
        if the row depends on a setting that the configuration lacks, or names a number of positions that it lacks.
    """
    model_type = getattr(config, "model_type", None)
    row = None if model_type is None else _TABLE.get(model_type)
    if row is None:
        raise UnsupportedModelError(
            f"No row for model type {model_type!r} in the architectures table. It has {how_to_support(model_type)}"
        )
    if row.positions is not None and not hasattr(config, row.positions):
        raise UnsupportedModelError(
            f"The row of {model_type!r} says that the configuration calls its number of positions {row.positions!r}, "
            "which this one lacks. Register the row with its own name for them, or with positions=None where there is "
            "no limit (replace(row, positions=...), addends.register(row, replace_existing=True))."
        )
    if row.variant is None:
        return row
    try:
        return row.variant(row, config)
    except AttributeError as error:
        raise UnsupportedModelError(
            f"The row of {model_type!r} depends on the configuration's {error.name!r}, which a "
            f"{type(config).__name__} lacks: it was written for another family. Give it variant=None "
            "(addends.register(replace(row, variant=None), replace_existing=True)), or a variant of its own."
        ) from error


def how_to_support(model_type: str | None = None) -> str:
    """The families that there are, how to try one's row, and how to write one: the end of an error message."""
    name = model_type if isinstance(model_type, str) else "..."
    return (
        f"{sorted(_TABLE)}. To try the row of one that spells its modules alike, Llama's for instance: "
        "from dataclasses import replace; from addends.decomposition import architecture_of; "
        f"addends.register(replace(architecture_of(transformers.LlamaConfig()), model_type={name!r})). Or write a row "
        "that names the modules: addends.register(Architecture(...)), see addends.decomposition.architecture. Either "
        "way decompose then checks the row on the model's own weights."
    )


def register(row: Architecture, replace_existing: bool = False) -> None:
    """Add a row to the table, from a user's own code. A row that is there already may be added again.

    The fields of a row, and an example of one, are in `addends.decomposition.architecture`; the rows that the table
    starts with are in `addends.decomposition.architectures`.

    Raises
    ------
    InputError
        If ``row`` is no `Architecture`, its stack has no sublayers, or its family has another row that is not to be
        replaced.
    """
    if not isinstance(row, Architecture) or not row.stack.sublayers:
        raise InputError(f"row={row!r}: an Architecture whose stack has at least one sublayer is wanted.")
    check_choice("norm", row.stack.norm, ("pre", "post"))
    if _TABLE.get(row.model_type, row) != row and not replace_existing:
        raise InputError(
            f"{row.model_type!r} has another row. Pass replace_existing=True to put this one in its place."
        )
    _TABLE[row.model_type] = row


def architectures() -> pd.DataFrame:
    """The table as a frame, one row a family: what it is, where it normalises, and its terms by sublayer."""
    return pd.DataFrame(
        [
            {
                "model_type": row.model_type,
                "kind": row.kind,
                "norm": row.stack.norm,
                "embedding_norm": row.stack.embedding_norm is not None,
                "parallel": row.stack.parallel,
                "gated": any(getattr(sublayer, "gate", None) for sublayer in row.stack.sublayers),
                "depends_on_config": row.variant is not None,
                "terms": "".join(row.terms),
            }
            for row in _TABLE.values()
        ]
    )
