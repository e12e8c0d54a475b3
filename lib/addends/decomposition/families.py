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


def _gated_t5(row: Architecture, config) -> Architecture:
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

    return replace(row, stack=stack(row.stack), encoder=stack(row.encoder))


def _longt5() -> Architecture:
    """T5's decoder. The encoder attends to blocks of its text, by code of its own: its states are atoms."""
    row = _t5("longt5")
    return replace(row, encoder=replace(row.encoder, sublayers=()))


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


def _electra(row: Architecture, config) -> Architecture:
    """The small models map their normed embeddings to a larger size: what is decomposed begins behind that map."""
    norm = "embeddings.LayerNorm" if config.embedding_size == config.hidden_size else None
    return replace(row, stack=replace(row.stack, embedding_norm=norm))


def _bert_generation(row: Architecture, config) -> Architecture:
    """As a decoder, the same layers read what came before alone."""
    auto_class = "AutoModelForCausalLM" if config.is_decoder else "AutoModel"
    return replace(row, causal=config.is_decoder, auto_class=auto_class)


def _opt(row: Architecture, config) -> Architecture:
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


def _gpt_neox(row: Architecture, config) -> Architecture:
    return replace(row, stack=replace(row.stack, parallel=config.use_parallel_residual))


def _stablelm(row: Architecture, config) -> Architecture:
    """In parallel, attention and feed-forward read one norm between them."""
    attention, feed_forward = row.stack.sublayers
    parallel = config.use_parallel_residual
    norm = attention.norm if parallel else "post_attention_layernorm"
    return replace(
        row, stack=replace(row.stack, sublayers=(attention, replace(feed_forward, norm=norm)), parallel=parallel)
    )


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
_PHI = Architecture(
    "phi",
    "AutoModelForCausalLM",
    Stack(
        "layers",
        (
            Attention("T", "own", "self_attn", "self_attn.v_proj", "self_attn.dense", "input_layernorm"),
            FeedForward("F", "mlp.fc1", "mlp.activation_fn", "mlp.fc2", "input_layernorm"),
        ),
        "pre",
        final_norm="final_layernorm",
        parallel=True,
    ),
)
_STARCODER2 = Architecture(
    "starcoder2",
    "AutoModelForCausalLM",
    Stack(
        "layers",
        (
            Attention("T", "own", "self_attn", "self_attn.v_proj", "self_attn.o_proj", "input_layernorm"),
            FeedForward("F", "mlp.c_fc", "mlp.act", "mlp.c_proj", "post_attention_layernorm"),
        ),
        "pre",
        final_norm="norm",
    ),
)
_BIOGPT = Architecture(
    "biogpt",
    "AutoModelForCausalLM",
    Stack(
        "layers",
        (
            Attention("T", "own", "self_attn", "self_attn.v_proj", "self_attn.out_proj", "self_attn_layer_norm"),
            FeedForward("F", "fc1", "activation_fn", "fc2", "final_layer_norm"),
        ),
        "pre",
        final_norm="layer_norm",
    ),
)

FAMILIES = (
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
    replace(_LLAMA, model_type="mistral"),
    replace(_LLAMA, model_type="ministral"),
    replace(_LLAMA, model_type="qwen2"),
    replace(_LLAMA, model_type="qwen3"),
    replace(_LLAMA, model_type="smollm3"),
    replace(_LLAMA, model_type="gemma"),
    replace(_LLAMA, model_type="helium"),
    replace(_LLAMA, model_type="seed_oss"),
    replace(_LLAMA, model_type="ernie4_5"),
    replace(_LLAMA, model_type="hunyuan_v1_dense"),
    replace(_LLAMA, model_type="stablelm", variant=_stablelm),
    _STARCODER2,
    _PHI,
    _GPT_NEOX,
)
