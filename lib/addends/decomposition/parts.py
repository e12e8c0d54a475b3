"""`decompose`: the states of a model's decoder as exact sums of parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from addends.checks import check_choice
from addends.decomposition import by_sublayer, by_token
from addends.decomposition.ambient import check_model
from addends.decomposition.architecture import Architecture
from addends.decomposition.architectures import architecture_of
from addends.decomposition.batch import Batch
from addends.decomposition.exactness import check_any, check_sum, relative_gap
from addends.decomposition.norms import CENTERINGS
from addends.decomposition.proofs import proven_capture
from addends.errors import InputError, UnsupportedModelError
from addends.tables import METHODS

# How each method centres a LayerNorm's terms unless told otherwise: as it was published.
DEFAULT_CENTERING = {"sublayer": "constant", "token": "own"}

# How a gated feed-forward is made linear by token, and which terms there are by token.
GATES = ("frozen", "tangent")
TOKENS = ("grouped", "each")
# Which terms there are by sublayer.
SUBLAYERS = ("grouped", "each")


@dataclass(frozen=True)
class Parts:
    """Hidden states and the parts they are the sum of.

    Attributes
    ----------
    vectors : Tensor of shape (layer, term, sentence, position, dim)
        Layer l is transformers' own ``hidden_states[l]``; layer 0 is the first layer's input. In the model's type, or
        float32 if that is half precision.
    states : Tensor of shape (layer, sentence, position, dim)
        The model's own hidden states. By token, attention weights are needed and attention is computed in the open:
        these states differ by rounding from those of the model's default attention implementation.
    mask : Tensor of bool, of shape (sentence, position)
        True where a real token stands.
    terms : tuple of str
        The names along the term axis.
    by, centering : str
        The method and where it put each norm's mean.

    Examples
    --------
    >>> parts = addends.decompose(model, batch)
    >>> parts
    Parts(by='sublayer', terms=(I, S, T, F, C), centering='constant', layer 4, term 5, sentence 1, position 5, dim 128)
    >>> float((parts.vectors.sum(dim=1) - parts.states).abs().max()) < 1e-5  # rounding alone
    True
    """

    vectors: torch.Tensor
    states: torch.Tensor
    mask: torch.Tensor
    terms: tuple[str, ...]
    by: str
    centering: str

    def error(self) -> float:
        """The largest ||sum of parts - state|| / ||state|| over layers and real tokens.

        Relative to each state, because `torch.allclose` fails on entries near zero. `decompose` has refused whatever is
        far above bound * max(1, sum_k ||x_k|| / ||e||), with the bounds of `addends.decomposition.exactness`: 1e-12 in
        float64 and 1e-6 in float32 (about 1e-15 and 3e-7 are reached), 5e-3 in float16 and 2e-2 in bfloat16. In half
        precision parts are carried in float32, and the error is the rounding of the model itself.

        Raises
        ------
        InputError
            If the mask is False everywhere.
        """
        check_any(self.mask)
        return float(relative_gap(self.vectors, self.states)[:, self.mask].max())

    def __repr__(self) -> str:
        axes = ", ".join(
            f"{name} {size}"
            for name, size in zip(("layer", "term", "sentence", "position", "dim"), self.vectors.shape, strict=True)
        )
        shown = self.terms if len(self.terms) <= 8 else (*self.terms[:3], "...", *self.terms[-3:])
        return f"Parts(by={self.by!r}, terms=({', '.join(shown)}), centering={self.centering!r}, {axes})"


def decompose(
    model: PreTrainedModel,
    batch: Batch,
    by: str = "sublayer",
    centering: str | None = None,
    gate: str = "frozen",
    tokens: str = "grouped",
    through_encoder: bool = False,
    heads: bool = False,
    chunk: int | None = None,
    sublayers: str = "grouped",
) -> Parts:
    """Write every state of a batch as an exact sum: e = i + s + t + f + c, or e = s + t + c.

    A single stack has no s. The sum is checked at every layer and real token before anything is returned, and what
    sums cannot show (norms, value maps, constants, the states of a plain pass) is proven once for a model: see
    `addends.decomposition.proofs`, which also says what it cannot see. By sublayer what each wrote is taken as it was
    written: how it came about (a changed query, a gate) is the model's own, and does not show.

    Parameters
    ----------
    model : PreTrainedModel
        Of a family that the architectures table has a row for, in evaluation mode.
    batch : Batch
        Made by `encode`, `translate`, or from tensors.
    by : {"sublayer", "token"}
        The method: by who wrote it, or by where it came from. Their S and T are different things.
    centering : {"constant", "own"}, optional
        Where the mean that a LayerNorm takes away goes: to C, or each term loses its own. By default as published:
        "constant" by sublayer, "own" by token.
    gate : {"frozen", "tangent"}
        By token, how a gated feed-forward is made linear: see `addends.decomposition.by_token`.
    tokens : {"grouped", "each"}
        By token, one term for all source tokens and one for all target tokens, or one for each ("S0", "S1", ...,
        "T0", ..., "C"; places count from 0 in the padded batch).
    through_encoder : bool
        By token, follow the source from its embeddings through the encoder, whose biases then go to C. By default the
        encoder's states are atoms. Not of LongT5, whose encoder attends by code of its own.
    heads : bool
        By sublayer, one term a layer and head in place of T and of S: "T2.0" is what the first head of layer 2 wrote.
    chunk : int, optional
        By token, how many terms go through a sublayer at once; by default as many as fit 16 MiB inside it.
    sublayers : {"grouped", "each"}
        By sublayer, one term a kind of sublayer, or one a kind and layer ("S1" is what layer 1's cross-attention
        wrote, in whatever layer it is looked at); their sums are the terms S, T and F.

    Returns
    -------
    Parts

    Raises
    ------
    InputError
        If an argument is not allowed, or model and batch do not fit.
    UnsupportedModelError
        If the architectures table has no row for the model, the row does not fit its modules, the model is wrapped,
        compiled or quantised, something is not what its proof wants, or the parts do not sum to the states: the message
        names the first layer that fails and the size of the gap.
    ModelStateError
        If a module is in training mode, autocast is on, or the model's weights or states are NaN or infinite.

    References
    ----------
    Mickus, Paperno & Constant (2022); Oh & Schuler (2023); Mickus & Vázquez (2023), section 2.
    """
    terms, layers = stream(
        model,
        batch,
        by,
        centering,
        gate=gate,
        tokens=tokens,
        through_encoder=through_encoder,
        heads=heads,
        chunk=chunk,
        sublayers=sublayers,
    )
    vectors, states = zip(*((vectors.clone(), state) for vectors, state in layers), strict=True)
    return Parts(
        vectors=torch.stack(vectors),
        states=torch.stack(states),
        mask=batch.mask,
        terms=terms,
        by=by,
        centering=centering or DEFAULT_CENTERING[by],
    )


def stream(
    model: PreTrainedModel,
    batch: Batch,
    by: str,
    centering: str | None = None,
    check: bool = True,
    *,
    gate: str = "frozen",
    tokens: str = "grouped",
    through_encoder: bool = False,
    heads: bool = False,
    chunk: int | None = None,
    sublayers: str = "grouped",
) -> tuple[tuple[str, ...], Iterator[tuple[torch.Tensor, torch.Tensor]]]:
    """`decompose`, one layer at a time: the terms, and an iterator over (vectors, state) that keeps one layer only.

    ``vectors`` is of shape (term, sentence, position, dim) and is overwritten by the next layer's; ``state`` is of
    shape (sentence, position, dim). With ``check``, each layer's sum is checked as in `decompose` before it is handed
    on; whoever streams many batches of one model may check the first one only, as `measure` does.
    """
    check_choice("by", by, METHODS)
    centering = DEFAULT_CENTERING[by] if centering is None else centering
    check_choice("centering", centering, CENTERINGS)
    check_choice("gate", gate, GATES)
    check_choice("tokens", tokens, TOKENS)
    check_choice("sublayers", sublayers, SUBLAYERS)
    if chunk is not None and chunk < 1:
        raise InputError(f"chunk={chunk}: at least one term at a time is needed, or None for a chunk chosen by size.")
    if by == "sublayer" and (tokens != "grouped" or through_encoder):
        raise InputError("tokens='each' and through_encoder=True need by='token': by sublayer, parts have no tokens.")
    if by == "token" and heads:
        raise InputError("heads=True needs by='sublayer': by token, parts travel through all heads.")
    if sublayers == "each" and (by == "token" or heads):
        raise InputError("sublayers='each' needs by='sublayer', and heads=False: heads split what it names.")
    if through_encoder:
        check_model(model)
        check_encoder(architecture_of(model.config))
    inner = heads or by == "token"  # what stands between a sublayer's two maps is large: kept only where it is read
    record = proven_capture(model, batch, attention_weights=by == "token", encoder=through_encoder, inner=inner)
    if by == "sublayer":
        terms = by_sublayer.terms_of(record, heads, sublayers)
        layers = by_sublayer.propagate(record, centering, heads, sublayers)
    else:
        terms = by_token.terms_of(record, tokens)
        layers = by_token.propagate(record, centering, gate, tokens, through_encoder, chunk)
    return terms, _paired(layers, record.main.states, batch.mask, model, check)


def streams(
    model: PreTrainedModel, batch: Batch, methods: Sequence[str], check: bool = True
) -> Iterator[tuple[str, tuple[str, ...], Iterator[tuple[torch.Tensor, torch.Tensor]]]]:
    """`stream` by each method named, with its defaults, of one forward pass: (method, terms, layers) in their order.

    With "token" among the methods the pass is the one that method needs, whose states differ by rounding from those of
    the model's default attention implementation.
    """
    by_tokens = "token" in methods
    record = proven_capture(model, batch, attention_weights=by_tokens, inner=by_tokens)
    for method in methods:
        centering = DEFAULT_CENTERING[method]
        if method == "sublayer":
            terms, layers = by_sublayer.terms_of(record), by_sublayer.propagate(record, centering)
        else:
            terms, layers = by_token.terms_of(record), by_token.propagate(record, centering)
        yield method, terms, _paired(layers, record.main.states, batch.mask, model, check)


def check_encoder(row: Architecture) -> None:
    """Raise unless a model has an encoder that parts can be carried through."""
    if row.encoder is None:
        raise InputError(f"through_encoder=True: a {row.model_type} has no encoder to go through.")
    if not row.encoder.sublayers:
        raise UnsupportedModelError(
            f"through_encoder=True: the encoder of a {row.model_type} attends by code of its own, whose weights cannot "
            "be recorded. Leave through_encoder out: its states are then atoms, and all else is as in other families."
        )


def _paired(
    layers: Iterator[torch.Tensor], states: list[torch.Tensor], mask: torch.Tensor, model: PreTrainedModel, check: bool
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    # Work on what was captured needs no graph; the caller's gradient mode is left as it is between layers.
    for number, state in enumerate(states):
        with torch.no_grad():
            vectors = next(layers)
            if check:
                check_sum(vectors, state, mask, number, model)
        yield vectors, state
