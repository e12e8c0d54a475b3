"""The architectures table: one row a model family says where its layers keep what a decomposition needs.

A row names modules by their path: a stack inside the base model, everything else inside a layer. Nothing else in this
package depends on how a family spells its modules, so supporting another family means registering its row, and seeing
the exactness check pass on its own weights.

Two kinds of layer differ in where they normalise. Post-norm (the original Transformer): e' = norm(e + f(e)).
Pre-norm: e' = e + f(norm(e)), and one final norm after the last layer.

References
----------
Xiong et al. (2020), On layer normalization in the Transformer architecture, ICML.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd

from addends.errors import InputError, UnsupportedModelError


@dataclass(frozen=True)
class Attention:
    """An attention sublayer: y = W_O A W_V x + (W_O b_V + b_O), where A are the attention weights.

    ``reads`` says whose states x are: the layer's "own" or the "encoder"'s. ``module`` is the one that calls
    transformers' attention interface. ``value`` holds W_V, alone ("all" of its rows), or fused with query and key:
    in the last of three "thirds", or as the last third of every head's rows ("heads").
    """

    term: str
    reads: str
    module: str
    value: str
    output: str
    norm: str
    rows: str = "all"


@dataclass(frozen=True)
class FeedForward:
    """A feed-forward sublayer: y = W_2 f(z) + b_2 with z = W_1 x + b_1, or, gated, y = W_2 (f(W_g x + b_g) * z) + b_2."""

    term: str
    first: str
    activation: str
    second: str
    norm: str
    gate: str | None = None


@dataclass(frozen=True)
class Stack:
    """A stack of like layers, by paths: ``path`` and the norms in the base model, ``sublayers`` in a layer.

    ``embedding_norm`` stands before the first layer, ``final_norm`` after the last one; None where there is none.
    """

    layers: str
    sublayers: tuple[Attention | FeedForward, ...]
    norm: str = "post"
    embedding_norm: str | None = None
    final_norm: str | None = None
    parallel: bool = False


@dataclass(frozen=True)
class Architecture:
    """One row of the table.

    Attributes
    ----------
    model_type : str
        The configuration's own name for the family.
    auto_class : str
        The transformers class that loads it with its output head.
    stack : Stack
        What is decomposed: the decoder of an encoder-decoder, else the only stack.
    encoder : Stack, optional
        The encoder of an encoder-decoder.
    positions : str, optional
        The configuration's name for the largest number of positions; None where there is no limit.
    causal : bool
        Whether a position reads only those before it.
    variant : function of (row, config), optional
        The row for one model of the family whose configuration changes it.
    """

    model_type: str
    auto_class: str
    stack: Stack
    encoder: Stack | None = None
    positions: str | None = "max_position_embeddings"
    causal: bool = True
    variant: Callable[[Architecture, object], Architecture] | None = None

    @property
    def terms(self) -> tuple[str, ...]:
        """Of the method by sublayer: I, then one term a kind of sublayer, then C."""
        written = {sublayer.term for sublayer in self.stack.sublayers}
        return ("I", *(term for term in ("S", "T", "F") if term in written), "C")

    @property
    def kind(self) -> str:
        """encoder-decoder, encoder or decoder."""
        if self.encoder is not None:
            return "encoder-decoder"
        return "decoder" if self.causal else "encoder"


def architecture_of(config) -> Architecture:
    """The row for a model with this configuration.

    Raises
    ------
    UnsupportedModelError
        If the table has none; the message lists those it has and says how to add one.
    """
    model_type = getattr(config, "model_type", None)
    if model_type not in _TABLE:
        raise UnsupportedModelError(
            f"No row for model type {model_type!r} in the architectures table. It has {sorted(_TABLE)}. "
            "To support another family, call addends.register(Architecture(...)) with a row that names its modules "
            "(see addends.decomposition.architectures), and check decompose(...).error() on its own weights."
        )
    row = _TABLE[model_type]
    return row.variant(row, config) if row.variant else row


def register(row: Architecture, replace_existing: bool = False) -> None:
    """Add a row to the table, from a user's own code.

    Raises
    ------
    InputError
        If ``row`` is no `Architecture`, its stack has no sublayers, or its family has a row that is not to be replaced.
    """
    if not isinstance(row, Architecture) or not row.stack.sublayers:
        raise InputError(f"row={row!r}: an Architecture whose stack has at least one sublayer is wanted.")
    if row.stack.norm not in ("pre", "post"):
        raise InputError(f"norm={row.stack.norm!r} is not one of ('pre', 'post').")
    if row.model_type in _TABLE and not replace_existing:
        raise InputError(f"{row.model_type!r} has a row. Pass replace_existing=True to put this one in its place.")
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


# --- the rows --------------------------------------------------------------------------------------------------------

_TABLE: dict[str, Architecture] = {}


def _bart_like(model_type: str, norm: str, embedding_norm: bool, final_norm: bool) -> Architecture:
    """BART's spelling, which Marian, mBART, M2M100 and Pegasus share: they differ in their norms."""
    own = Attention("T", "own", "self_attn", "self_attn.v_proj", "self_attn.out_proj", "self_attn_layer_norm")
    cross = Attention(
        "S", "encoder", "encoder_attn", "encoder_attn.v_proj", "encoder_attn.out_proj", "encoder_attn_layer_norm"
    )
    feed_forward = FeedForward("F", "fc1", "activation_fn", "fc2", "final_layer_norm")

    def stack(path: str, sublayers: tuple) -> Stack:
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
        stack=stack("decoder", (own, cross, feed_forward)),
        encoder=stack("encoder", (own, feed_forward)),
    )


def _t5(model_type: str) -> Architecture:
    own = Attention(
        "T", "own", "layer.0.SelfAttention", "layer.0.SelfAttention.v", "layer.0.SelfAttention.o", "layer.0.layer_norm"
    )
    cross = Attention(
        "S",
        "encoder",
        "layer.1.EncDecAttention",
        "layer.1.EncDecAttention.v",
        "layer.1.EncDecAttention.o",
        "layer.1.layer_norm",
    )

    def feed_forward(place: int, gated: bool) -> FeedForward:
        inner = f"layer.{place}.DenseReluDense"
        return FeedForward(
            "F",
            f"{inner}.wi_1" if gated else f"{inner}.wi",
            f"{inner}.act",
            f"{inner}.wo",
            f"layer.{place}.layer_norm",
            gate=f"{inner}.wi_0" if gated else None,
        )

    def row(gated: bool) -> Architecture:
        return Architecture(
            model_type,
            "AutoModelForSeq2SeqLM",
            stack=Stack("decoder.block", (own, cross, feed_forward(2, gated)), "pre", None, "decoder.final_layer_norm"),
            encoder=Stack("encoder.block", (own, feed_forward(1, gated)), "pre", None, "encoder.final_layer_norm"),
            positions=None,  # relative
        )

    return replace(row(gated=False), variant=lambda _, config: row(gated=config.is_gated_act))


def _bert_like(model_type: str) -> Architecture:
    return Architecture(
        model_type,
        "AutoModel",
        Stack(
            "encoder.layer",
            (
                Attention(
                    "T",
                    "own",
                    "attention.self",
                    "attention.self.value",
                    "attention.output.dense",
                    "attention.output.LayerNorm",
                ),
                FeedForward(
                    "F", "intermediate.dense", "intermediate.intermediate_act_fn", "output.dense", "output.LayerNorm"
                ),
            ),
            embedding_norm="embeddings.LayerNorm",
        ),
        causal=False,
    )


def _opt(row: Architecture, config) -> Architecture:
    """The 350M model normalises after each sublayer and projects its embeddings; the others do neither."""
    if config.do_layer_norm_before:
        return row
    return replace(row, stack=replace(row.stack, norm="post", final_norm=None))


def _gpt_neox(row: Architecture, config) -> Architecture:
    return replace(row, stack=replace(row.stack, parallel=config.use_parallel_residual))


_DISTILBERT = Architecture(
    "distilbert",
    "AutoModel",
    Stack(
        "transformer.layer",
        (
            Attention("T", "own", "attention", "attention.v_lin", "attention.out_lin", "sa_layer_norm"),
            FeedForward("F", "ffn.lin1", "ffn.activation", "ffn.lin2", "output_layer_norm"),
        ),
        embedding_norm="embeddings.LayerNorm",
    ),
    causal=False,
)
_GPT2 = Architecture(
    "gpt2",
    "AutoModelForCausalLM",
    Stack(
        "h",
        (
            Attention("T", "own", "attn", "attn.c_attn", "attn.c_proj", "ln_1", rows="thirds"),
            FeedForward("F", "mlp.c_fc", "mlp.act", "mlp.c_proj", "ln_2"),
        ),
        "pre",
        final_norm="ln_f",
    ),
)
_OPT = Architecture(
    "opt",
    "AutoModelForCausalLM",
    Stack(
        "decoder.layers",
        (
            Attention("T", "own", "self_attn", "self_attn.v_proj", "self_attn.out_proj", "self_attn_layer_norm"),
            FeedForward("F", "fc1", "activation_fn", "fc2", "final_layer_norm"),
        ),
        "pre",
        final_norm="decoder.final_layer_norm",
    ),
    variant=_opt,
)
_LLAMA = Architecture(
    "llama",
    "AutoModelForCausalLM",
    Stack(
        "layers",
        (
            Attention("T", "own", "self_attn", "self_attn.v_proj", "self_attn.o_proj", "input_layernorm"),
            FeedForward(
                "F", "mlp.up_proj", "mlp.act_fn", "mlp.down_proj", "post_attention_layernorm", gate="mlp.gate_proj"
            ),
        ),
        "pre",
        final_norm="norm",
    ),
)
_GPT_NEOX = Architecture(
    "gpt_neox",
    "AutoModelForCausalLM",
    Stack(
        "layers",
        (
            Attention(
                "T",
                "own",
                "attention",
                "attention.query_key_value",
                "attention.dense",
                "input_layernorm",
                rows="heads",
            ),
            FeedForward("F", "mlp.dense_h_to_4h", "mlp.act", "mlp.dense_4h_to_h", "post_attention_layernorm"),
        ),
        "pre",
        final_norm="final_layer_norm",
        parallel=True,
    ),
    variant=_gpt_neox,
)

for _row in (
    _bart_like("marian", "post", embedding_norm=False, final_norm=False),
    _bart_like("bart", "post", embedding_norm=True, final_norm=False),
    _bart_like("mbart", "pre", embedding_norm=True, final_norm=True),
    _bart_like("m2m_100", "pre", embedding_norm=False, final_norm=True),  # NLLB too
    _bart_like("pegasus", "pre", embedding_norm=False, final_norm=True),
    _t5("t5"),
    _t5("mt5"),
    _bert_like("bert"),
    _bert_like("roberta"),
    _DISTILBERT,
    _GPT2,
    _OPT,
    _LLAMA,
    _GPT_NEOX,
):
    register(_row)
