"""The architectures table: one row a model family says where its decoder keeps what a decomposition needs.

A row names modules by their path: inside the base model (``decoder``), inside a layer (everything else). Nothing else
in this package depends on how a family spells its modules, so supporting another family means adding its row, and
seeing the exactness check pass on its own weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from addends.errors import UnsupportedModelError


@dataclass(frozen=True)
class Attention:
    """An attention sublayer: y = W_O A W_V x + (W_O b_V + b_O), where A are the attention weights.

    ``reads`` says whose states x are: the layer's own ("decoder") or the encoder's ("encoder").
    """

    term: str
    reads: str
    module: str
    value: str
    output: str
    norm: str


@dataclass(frozen=True)
class FeedForward:
    """A feed-forward sublayer: y = W_2 f(W_1 x + b_1) + b_2."""

    term: str
    first: str
    activation: str
    second: str
    norm: str


@dataclass(frozen=True)
class Architecture:
    """One row: a model family whose layers add each sublayer's output to what it read, then normalise (post-norm).

    ``model_type`` is the configuration's own name for the family; ``auto_class`` the transformers class that loads it
    with its output head; ``encoder``, ``decoder`` and ``layers`` are paths; ``sublayers`` stand in the order in which
    they run; ``positions`` is the configuration's name for the largest number of positions.
    """

    model_type: str
    auto_class: str
    encoder: str
    decoder: str
    layers: str
    sublayers: tuple[Attention | FeedForward, ...]
    positions: str

    @property
    def terms(self) -> tuple[str, ...]:
        """I, then one term a kind of sublayer, then C."""
        written = {sublayer.term for sublayer in self.sublayers}
        return ("I", *(term for term in ("S", "T", "F") if term in written), "C")


_MARIAN = Architecture(
    model_type="marian",
    auto_class="AutoModelForSeq2SeqLM",
    encoder="encoder",
    decoder="decoder",
    layers="layers",
    sublayers=(
        Attention("T", "decoder", "self_attn", "self_attn.v_proj", "self_attn.out_proj", "self_attn_layer_norm"),
        Attention(
            "S", "encoder", "encoder_attn", "encoder_attn.v_proj", "encoder_attn.out_proj", "encoder_attn_layer_norm"
        ),
        FeedForward("F", "fc1", "activation_fn", "fc2", "final_layer_norm"),
    ),
    positions="max_position_embeddings",
)

ARCHITECTURES: dict[str, Architecture] = {row.model_type: row for row in (_MARIAN,)}


def architecture_of(config) -> Architecture:
    """The row for a model with this configuration.

    Raises
    ------
    UnsupportedModelError
        If the table has none; the message lists those it has and says how to add one.
    """
    model_type = getattr(config, "model_type", None)
    if model_type not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"No row for model type {model_type!r} in the architectures table. It has {sorted(ARCHITECTURES)}. "
            "To support another family, add an Architecture row to addends.decomposition.architectures.ARCHITECTURES "
            "that names its modules, and check decompose(...).error() on its own weights."
        )
    return ARCHITECTURES[model_type]
