"""Shared fixtures: small random Marian models whose norms and biases are far from trivial, and a real tokenizer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

MADE_UP = [
    "la maison est grande",
    "le chat dort",
    "nous partons demain matin avec nos amis",
    "il pleut",
    "the house is big",
    "the cat sleeps",
    "we leave tomorrow morning with our friends",
    "it rains",
]
SOURCES, TARGETS = MADE_UP[:4], MADE_UP[4:]


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    """A Marian tokenizer trained on eight sentences."""
    from addends.runs import vocabulary

    return vocabulary.train(MADE_UP, tmp_path_factory.mktemp("tokenizer") / "vocabulary", 45, byte_fallback=False)


@pytest.fixture(scope="session")
def make_marian(tokenizer):
    """A function that makes a random Marian model: every norm and bias is drawn far from its initial value."""
    import torch
    from transformers import MarianConfig, MarianMTModel

    from addends.runs.training import seeded

    def make(layers: int = 2, dim: int = 32, dtype: str = "float32", seed: int = 0, **options) -> MarianMTModel:
        pad = tokenizer.pad_token_id
        settings = {
            "vocab_size": len(tokenizer),
            "d_model": dim,
            "encoder_layers": layers,
            "decoder_layers": layers,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 4 * dim,
            "decoder_ffn_dim": 4 * dim,
            "max_position_embeddings": 40,
            "activation_function": "swish",
            "scale_embedding": True,
            "init_std": dim**-0.5,
            "pad_token_id": pad,
            "eos_token_id": tokenizer.eos_token_id,
            "decoder_start_token_id": pad,
            "forced_eos_token_id": None,
        }
        with seeded(seed):
            model = MarianMTModel(MarianConfig(**{**settings, **options}))
            with torch.no_grad():
                for name, weight in model.named_parameters():
                    if name.endswith("layer_norm.weight"):
                        weight.uniform_(0.5, 1.5)
                    elif name.endswith("bias"):
                        weight.normal_(0, 0.3)
        return model.to(getattr(torch, dtype)).eval()

    return make


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder that ADDENDS_DATA names; tests that need the corpora or the published tables skip without it."""
    value = os.environ.get("ADDENDS_DATA")
    if not value or not Path(value).is_dir():
        pytest.skip("needs ADDENDS_DATA: a folder that holds corpora/ and published/")
    return Path(value)
