"""What a row of the architectures table says: where a family's layers keep what a decomposition needs.

Modules are named by their paths: a stack's own in the base model, a sublayer's in a layer. Two kinds of layer differ in
where they normalise. Post-norm (the original Transformer): e' = norm(e + f(e)). Pre-norm: e' = e + f(norm(e)), and one
final norm after the last layer.

    Architecture(
        "starcoder2",
        "AutoModelForCausalLM",
        Stack(
            "layers",
            (
                Attention("T", "own", "self_attn", "self_attn.v_proj", "self_attn.o_proj", "input_layernorm"),
                FeedForward("F", "mlp.c_fc", "mlp.act", "mlp.c_proj", "post_attention_layernorm"),
            ),
            norm="pre",
            final_norm="norm",
        ),
    )

References
----------
Xiong et al. (2020), On layer normalization in the Transformer architecture, ICML.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Attention:
    """An attention sublayer: y = W_O A W_V x + (W_O b_V + b_O), where A are the attention weights.

    Attributes
    ----------
    term : str
        The term that it writes to by sublayer: "T" for self-attention, "S" for cross-attention.
    reads : {"own", "encoder"}
        Whose states x are: the layer's own, or the encoder's.
    module : str
        The module that calls transformers' attention interface.
    value, output : str
        The modules that hold W_V and W_O.
    norm : str
        The norm in front of the sublayer (pre-norm) or behind it (post-norm).
    rows : {"all", "thirds", "heads"}
        Which rows of ``value`` are W_V: all of them; the last third, behind those of query and key; or, where query,
        key and value are interleaved by head, the last third of every head's rows.

    Examples
    --------
    >>> Attention("T", "own", "attn", "attn.c_attn", "attn.c_proj", "ln_1", rows="thirds").value  # GPT-2's
    'attn.c_attn'
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
    """A feed-forward: y = W_2 f(z) + b_2 with z = W_1 x + b_1; gated, y = W_2 (f(W_g x + b_g) * z) + b_2.

    Attributes
    ----------
    term : str
        The term that it writes to by sublayer: "F".
    first, activation, second : str
        The modules of W_1, f and W_2.
    norm : str
        As of an `Attention`.
    gate : str, optional
        The module of W_g, where there is a gate.

    Examples
    --------
    >>> FeedForward("F", "fc1", "activation_fn", "fc2", "final_layer_norm").gate is None  # Marian's
    True
    """

    term: str
    first: str
    activation: str
    second: str
    norm: str
    gate: str | None = None


@dataclass(frozen=True)
class Stack:
    """A stack of layers that are alike.

    Attributes
    ----------
    layers : str
        The path of the list of layers, in the base model.
    sublayers : tuple of Attention or FeedForward
        Those of one layer, in order; their paths start at the layer. An encoder without any, (), cannot be gone
        through: its states are atoms.
    norm : {"post", "pre"}
        Whether a layer normalises behind its sublayers or in front of them.
    embedding_norm, final_norm : str, optional
        The paths, in the base model, of the norm before the first layer and of the one after the last layer.
    parallel : bool
        Whether all sublayers read the layer's own input; they may then share one norm.
    projection : str, optional
        A map behind the final norm, which gives what transformers calls the last hidden state. What is decomposed is
        the state before that map.

    Examples
    --------
    >>> feed_forward = FeedForward("F", "fc1", "act", "fc2", "norm")
    >>> Stack("decoder.layers", (feed_forward,), norm="pre", final_norm="decoder.layer_norm").parallel
    False
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

    Examples
    --------
    >>> feed_forward = FeedForward("F", "fc1", "act", "fc2", "norm")
    >>> row = Architecture("mine", "AutoModelForCausalLM", Stack("layers", (feed_forward,), norm="pre"))
    >>> row.kind, row.terms
    ('decoder', ('I', 'F', 'C'))
    """

    model_type: str
    auto_class: str
    stack: Stack
    encoder: Stack | None = None
    positions: str | None = "max_position_embeddings"
    first_position: int = 0
    causal: bool = True
    variant: Callable[[Architecture, Any], Architecture] | None = None

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
