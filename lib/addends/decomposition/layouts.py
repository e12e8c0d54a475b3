"""What a row of the architectures table says: where a family's layers keep what a decomposition needs.

Modules are named by their paths: a stack's own in the base model, a sublayer's in a layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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
    """A feed-forward: y = W_2 f(z) + b_2 with z = W_1 x + b_1; gated, y = W_2 (f(W_g x + b_g) * z) + b_2."""

    term: str
    first: str
    activation: str
    second: str
    norm: str
    gate: str | None = None


@dataclass(frozen=True)
class Stack:
    """A stack of like layers, by paths: ``layers`` and the norms in the base model, ``sublayers`` in a layer.

    ``embedding_norm`` stands before the first layer, ``final_norm`` after the last one; None where there is none.
    ``projection`` is a map behind the final norm that gives what transformers calls the last hidden state: what is
    decomposed is the state before it. In ``parallel``, all sublayers read the layer's own input, and may read one norm
    between them. An encoder whose ``sublayers`` are () cannot be gone through: its states are atoms.
    """

    layers: str
    sublayers: tuple[Attention | FeedForward, ...]
    norm: str = "post"
    embedding_norm: str | None = None
    final_norm: str | None = None
    parallel: bool = False
    projection: str | None = None


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
    first_position : int
        The position of the first token, where the embedding of positions does not begin with it.
    causal : bool
        Whether a position reads only those before it.
    variant : function of (row, config), optional
        The row for one model of the family whose configuration changes it. It sets whatever it may change, both ways:
        what it is given may be the row of another configuration, under another family's name.
    """

    model_type: str
    auto_class: str
    stack: Stack
    encoder: Stack | None = None
    positions: str | None = "max_position_embeddings"
    first_position: int = 0
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
