"""The families of models that can be decomposed as they come: the rows that the architectures table starts with."""

from __future__ import annotations

from dataclasses import replace

from addends.decomposition.layouts import Architecture, Attention, FeedForward, Stack


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

    def gated(given: Architecture, config) -> Architecture:
        wanted = row(gated=config.is_gated_act)

        def with_feed_forward(stack: Stack, other: Stack) -> Stack:
            return replace(stack, sublayers=(*stack.sublayers[:-1], other.sublayers[-1]))

        return replace(
            given,
            stack=with_feed_forward(given.stack, wanted.stack),
            encoder=with_feed_forward(given.encoder, wanted.encoder),
        )

    return replace(row(gated=False), variant=gated)


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


def _roberta(row: Architecture, config) -> Architecture:
    """Positions begin behind the pad's id."""
    return replace(row, first_position=config.pad_token_id + 1)


def _opt(row: Architecture, config) -> Architecture:
    """The 350M model normalises after each sublayer and projects its embeddings; the others do neither.

    Where the last state is projected back to the embeddings' size, what is decomposed is the state before that.
    """
    projection = "decoder.project_out" if config.word_embed_proj_dim != config.hidden_size else None
    stack = replace(row.stack, projection=projection)
    if not config.do_layer_norm_before:
        stack = replace(stack, norm="post", final_norm=None)
    elif stack.norm == "post":
        stack = replace(stack, norm="pre", final_norm="decoder.final_layer_norm")
    return replace(row, stack=stack)


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

FAMILIES = (
    _bart_like("marian", "post", embedding_norm=False, final_norm=False),
    _bart_like("bart", "post", embedding_norm=True, final_norm=False),
    _bart_like("mbart", "pre", embedding_norm=True, final_norm=True),
    _bart_like("m2m_100", "pre", embedding_norm=False, final_norm=True),  # NLLB too
    _bart_like("pegasus", "pre", embedding_norm=False, final_norm=True),
    _t5("t5"),
    _t5("mt5"),
    _bert_like("bert"),
    replace(_bert_like("roberta"), variant=_roberta),
    _DISTILBERT,
    _GPT2,
    _OPT,
    _LLAMA,
    _GPT_NEOX,
)
