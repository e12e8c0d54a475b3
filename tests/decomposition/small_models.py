"""A small random model of every family, with norms, biases and weights far from their initial values."""

from __future__ import annotations

import torch
import transformers as tr

import addends
from addends.decomposition import architecture_of
from addends.runs.training import seeded

VOCABULARY, PAD, START = 40, 1, 2
_PAIR = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 20,
    "decoder_start_token_id": START,
    "scale_embedding": True,
}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": PAD}
_BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 20,
}
_DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 20}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 20}
_OPT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "ffn_dim": 64,
    "max_position_embeddings": 20,
    "word_embed_proj_dim": 32,
}
_GROUPED = {**_BERT, "num_key_value_heads": 2}
_WIDE_HEADS = {**_GROUPED, "head_dim": 12}  # the heads side by side are wider than a state
_LONGT5 = {**_T5, "local_radius": 2, "decoder_start_token_id": PAD}
_WINDOWS = ["sliding_attention", "full_attention"]  # a window of 3 tokens is shorter than the sentences

# One entry a row of the table, and one more for each configuration that changes the row ("family: what is special").
CONFIGURATIONS = {
    "marian": (tr.MarianMTModel, _PAIR),
    "bart": (tr.BartForConditionalGeneration, _PAIR),
    "plbart": (tr.PLBartForConditionalGeneration, _PAIR),
    "mbart": (tr.MBartForConditionalGeneration, _PAIR),
    "m2m_100": (tr.M2M100ForConditionalGeneration, _PAIR),
    "pegasus": (tr.PegasusForConditionalGeneration, _PAIR),
    "blenderbot": (tr.BlenderbotForConditionalGeneration, _PAIR),
    "t5": (tr.T5ForConditionalGeneration, _T5),
    "t5: gated": (tr.T5ForConditionalGeneration, {**_T5, "feed_forward_proj": "gated-gelu"}),
    "mt5": (tr.MT5ForConditionalGeneration, _T5),
    "mt5: plain": (tr.MT5ForConditionalGeneration, {**_T5, "feed_forward_proj": "relu"}),
    "umt5": (tr.UMT5ForConditionalGeneration, _T5),
    "umt5: plain": (tr.UMT5ForConditionalGeneration, {**_T5, "feed_forward_proj": "relu"}),
    "longt5": (tr.LongT5ForConditionalGeneration, _LONGT5),
    "longt5: gated, global": (
        tr.LongT5ForConditionalGeneration,
        {
            **_LONGT5,
            "feed_forward_proj": "gated-gelu",
            "encoder_attention_type": "transient-global",
            "global_block_size": 3,
        },
    ),
    "bert": (tr.BertModel, _BERT),
    "roberta": (tr.RobertaModel, _BERT),
    "xlm-roberta": (tr.XLMRobertaModel, _BERT),
    "camembert": (tr.CamembertModel, _BERT),
    "electra": (tr.ElectraModel, {**_BERT, "embedding_size": 32}),
    "electra: smaller embeddings": (tr.ElectraModel, {**_BERT, "embedding_size": 16}),
    "bert-generation": (tr.BertGenerationEncoder, _BERT),
    "bert-generation: decoder": (tr.BertGenerationDecoder, {**_BERT, "is_decoder": True}),
    "distilbert": (tr.DistilBertModel, _DISTILBERT),
    "gpt2": (tr.GPT2LMHeadModel, _GPT2),
    "opt": (tr.OPTForCausalLM, _OPT),
    "opt: post-norm": (tr.OPTForCausalLM, {**_OPT, "do_layer_norm_before": False}),
    "biogpt": (tr.BioGptForCausalLM, _BERT),
    "llama": (tr.LlamaForCausalLM, _BERT),
    "llama: grouped queries": (tr.LlamaForCausalLM, _GROUPED),
    "llama: biases": (tr.LlamaForCausalLM, {**_GROUPED, "attention_bias": True, "mlp_bias": True}),
    "mistral": (tr.MistralForCausalLM, {**_WIDE_HEADS, "sliding_window": 3}),
    "ministral": (tr.MinistralForCausalLM, {**_WIDE_HEADS, "sliding_window": 3, "layer_types": _WINDOWS}),
    "qwen2": (
        tr.Qwen2ForCausalLM,
        {**_GROUPED, "use_sliding_window": True, "sliding_window": 3, "layer_types": _WINDOWS},
    ),
    "qwen3": (
        tr.Qwen3ForCausalLM,
        {
            **_WIDE_HEADS,
            "attention_bias": True,
            "use_sliding_window": True,
            "sliding_window": 3,
            "layer_types": _WINDOWS,
        },
    ),
    "smollm3": (
        tr.SmolLM3ForCausalLM,  # its second layer has no positions, and a window
        {
            **_GROUPED,
            "no_rope_layers": [1, 0],
            "use_sliding_window": True,
            "sliding_window": 3,
            "attention_bias": True,
            "mlp_bias": True,
        },
    ),
    "gemma": (tr.GemmaForCausalLM, _WIDE_HEADS),
    "gemma: biases": (tr.GemmaForCausalLM, {**_WIDE_HEADS, "attention_bias": True}),
    "helium": (tr.HeliumForCausalLM, {**_GROUPED, "head_dim": 8, "attention_bias": True, "mlp_bias": True}),
    "seed_oss": (tr.SeedOssForCausalLM, {**_WIDE_HEADS, "attention_out_bias": True, "mlp_bias": True}),
    "ernie4_5": (tr.Ernie4_5ForCausalLM, {**_WIDE_HEADS, "use_bias": True}),
    "hunyuan_v1_dense": (tr.HunYuanDenseV1ForCausalLM, {**_WIDE_HEADS, "attention_bias": True}),
    "stablelm": (tr.StableLmForCausalLM, {**_GROUPED, "use_qkv_bias": True, "qk_layernorm": True}),
    "stablelm: parallel": (tr.StableLmForCausalLM, {**_GROUPED, "use_parallel_residual": True}),
    "starcoder2": (tr.Starcoder2ForCausalLM, {**_GROUPED, "sliding_window": 3}),
    "phi": (tr.PhiForCausalLM, _GROUPED),
    "phi: normed queries": (tr.PhiForCausalLM, {**_GROUPED, "qk_layernorm": True}),
    "gpt_neox": (tr.GPTNeoXForCausalLM, _BERT),
    "gpt_neox: sequential": (tr.GPTNeoXForCausalLM, {**_BERT, "use_parallel_residual": False}),
}
NAMES = tuple(CONFIGURATIONS)
PAIRS = tuple(name for name, (_, settings) in CONFIGURATIONS.items() if "decoder_start_token_id" in settings)
ENCODERS = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "electra: smaller embeddings", "bert-generation")
ENCODERS += ("distilbert",)


def make(name: str, dtype: torch.dtype = torch.float32, **options):
    """The model of that name."""
    model_class, settings = CONFIGURATIONS[name]
    symbols = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "bos_token_id": 0, "eos_token_id": 2}
    with seeded(0):
        model = model_class(model_class.config_class(**{**symbols, **settings, **options}))
        with torch.no_grad():
            for path, weight in model.named_parameters():
                if "norm" in path.lower() or "ln_" in path:
                    weight.uniform_(0.5, 1.5) if path.endswith("weight") else weight.normal_(0, 0.3)
                elif path.endswith("bias"):
                    weight.normal_(0, 0.3)
                elif weight.ndim == 2 and ("embed" not in path or "project" in path) and "relative" not in path:
                    weight.normal_(0, weight.shape[-1] ** -0.5)
    return model.to(dtype).eval()


def batch_for(model, left: bool = False) -> addends.Batch:
    """Three sentences of 7, 4 and 6 tokens, padded; of an encoder-decoder with targets of 5, 6 and 1 tokens."""
    row = architecture_of(model.config)
    generator = torch.Generator().manual_seed(1)

    def side(lengths, left=False):
        longest = max(lengths)
        ids = torch.randint(3, VOCABULARY, (len(lengths), longest), generator=generator)
        place = torch.arange(longest).expand_as(ids)
        length = torch.tensor(lengths)[:, None]
        mask = place >= longest - length if left else place < length
        return ids.masked_fill(~mask, PAD), mask

    ids, mask = side((7, 4, 6), left)
    if row.kind == "encoder-decoder":
        return addends.Batch(ids, mask.long(), *side((5, 6, 1)))
    positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0) + row.first_position if left else None
    return addends.Batch(ids, mask.long(), position_ids=positions)


def alone(batch: addends.Batch, sentence: int) -> addends.Batch:
    """One sentence of the batch, without padding."""
    row = slice(sentence, sentence + 1)
    keep = batch.attention_mask[sentence].bool()
    if batch.decoder_input_ids is None:
        return addends.Batch(batch.input_ids[row, keep], batch.attention_mask[row, keep])
    keep_decoder = batch.decoder_mask[sentence]
    return addends.Batch(
        batch.input_ids[row, keep],
        batch.attention_mask[row, keep],
        batch.decoder_input_ids[row, keep_decoder],
        batch.decoder_mask[row, keep_decoder],
    )


def transformers_states(model, batch: addends.Batch) -> tuple[torch.Tensor, ...]:
    """``hidden_states`` as transformers itself returns them."""
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    row = architecture_of(model.config)
    if row.kind == "encoder-decoder":
        inputs["decoder_input_ids"] = batch.decoder_input_ids
    if batch.position_ids is not None:
        inputs["position_ids"] = batch.position_ids
    if row.kind != "encoder":
        inputs["use_cache"] = False
    with torch.no_grad():
        output = model(**inputs, output_hidden_states=True)
    return output.decoder_hidden_states if row.kind == "encoder-decoder" else output.hidden_states
