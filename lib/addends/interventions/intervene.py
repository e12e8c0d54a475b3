"""What a part does: the label's log-probability and logit when it is replaced, and, beside it, what the sum says of it.

Two effects, both of the label's log p (nats) and logit, after minus before:

    direct    one part x_k of the last state is replaced, e - x_k + r, and the head reads the rest
    total     what a kind of sublayer writes is replaced in the forward pass, in one layer or in all, and all later
              layers react

The head's own bias stays. Where the head is linear, the direct effect on the logit is s <w_y, r - x_k>: of a part that
is replaced by zero, minus its share (of C, minus its share less the bias). It is so by construction.

The two do not replace the same thing: what a sublayer writes whatever it reads belongs to C, and stays when the part S
is replaced; in the pass a sublayer is replaced together with its biases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from transformers import PreTrainedModel

from addends.checks import check_choice
from addends.decomposition import Batch, Parts, logit_shares
from addends.decomposition.ambient import check_model
from addends.decomposition.indicators import of_vectors
from addends.decomposition.logits import linear_head
from addends.decomposition.parts import SUBLAYERS, TOKENS
from addends.errors import InputError
from addends.interventions.head import label_effects
from addends.interventions.means import Means
from addends.interventions.reading import Reading
from addends.interventions.replacing import Replacement
from addends.interventions.rewriting import rewritten
from addends.tables import EFFECTS, METHODS, REPLACEMENTS

KEY = ["effect", "by", "layer", "term", "sentence", "position"]
BESIDE = ["share", "importance", "cosine", "norm_ratio"]


class Intervention(NamedTuple):
    """One thing that is replaced.

    Attributes
    ----------
    term : str
        Its name in frames: "S", or "S+T" of two parts at once.
    members : tuple of str
        The terms that it is made of.
    layer : int or None
        Of a total effect, the layer whose sublayers are replaced, None standing for all. Of a direct one, the last.

    Examples
    --------
    >>> Intervention("S+T", ("S", "T"), None).members
    ('S', 'T')
    """

    term: str
    members: tuple[str, ...]
    layer: int | None


class Asked(NamedTuple):
    """What one call asks for: which decomposition, and which interventions, in the order of the frame's rows.

    Examples
    --------
    >>> from addends.interventions.reading import Reading
    >>> [one.term for one in asked(Reading(model, batch), effect="total", layers=[1]).interventions]
    ['S', 'T', 'F']
    """

    by: str
    effect: str
    tokens: str
    sublayers: str
    interventions: tuple[Intervention, ...]


def intervene(
    model: PreTrainedModel,
    batch: Batch,
    by: str = "sublayer",
    effect: str = "direct",
    replace: str = "mean",
    means: Means | None = None,
    tokens: str = "grouped",
    sublayers: str = "grouped",
    seed: int = 0,
    *,
    terms: str | Sequence[str] | None = None,
    layers: int | Sequence[int | None] | None = None,
) -> pd.DataFrame:
    """The change of each label's log-probability and logit when one part, or one kind of sublayer, is replaced.

    Parameters
    ----------
    model : PreTrainedModel
        With a linear output head: an encoder-decoder, or a decoder-only model, whose labels are its next tokens. It is
        left as it was.
    batch : Batch
        Made by `encode` or `translate`: with labels.
    by : {"sublayer", "token"}
        The method whose parts are replaced; "total" needs "sublayer".
    effect : {"direct", "total"}
        Whether the head alone reads what was replaced, or all later layers do. See the head of this module.
    replace : {"mean", "pooled", "zero", "sentence"}
        By the mean at the token's place, by that over all places, by nothing, or by what another sentence of the batch,
        drawn by ``seed``, has at the same place (a shorter one: at its last).
    means : Means, optional
        Of this model, taken once over a corpus by `take_means`. Without them, "mean" and "pooled" take the mean over
        the batch's own real tokens, whatever their place: the numbers then depend on the batch.
    tokens : {"grouped", "each"}
        By token, all source tokens' parts at once, or each source token's and each target token's; each can only be
        replaced by zero, because no mean stands for one token of one sentence.
    sublayers : {"grouped", "each"}
        By sublayer, the method's terms, or the parts of single sublayers: see `decompose`. For direct effects.
    seed : int
        Of the sentences that others are given by ``replace="sentence"``.
    terms : sequence of str, optional
        Which to replace, one after the other; "S+T" replaces two at once. By default each; of a total effect S, T, F.
    layers : sequence of int or None, optional
        Of a total effect, in which layers, one after the other, None standing for all at once. By default all at once
        and each, from 1 on.

    Returns
    -------
    DataFrame
        Tidy: effect, by, layer (of a direct effect the last; missing where a total one is in all layers), term,
        sentence, position, logprob (nats), logit. Rows for real tokens with a label only, and of ``tokens="each"`` for
        those of the tokens that the state can have read.

    Raises
    ------
    InputError
        If an argument is not allowed, the method has no such term or the model no such layer, the means are of another
        model, the batch has no labels, or one sentence where its own mean or another sentence is asked for.
    UnsupportedModelError, ModelStateError
        As `logit_shares` and `decompose`: encoders have no linear head.
    """
    reading = Reading(checked(model), batch)
    ask = asked(reading, by, effect, tokens, sublayers, terms, layers)
    return effects_of(reading, ask, replacement_of(reading, ask, replace, means, seed))


def beside_effects(
    model: PreTrainedModel,
    batch: Batch,
    by: str = "sublayer",
    effect: str = "direct",
    tokens: str = "grouped",
    sublayers: str = "grouped",
    *,
    terms: str | Sequence[str] | None = None,
    layers: int | Sequence[int | None] | None = None,
) -> pd.DataFrame:
    """What the decomposition says of the parts that `intervene`, with the same arguments, replaces.

    Of a total effect in one layer, the part is that of the layer's own sublayer; in all layers, the term. All of it is
    of the last state: ``share`` of the label's logit (of C with the head's bias), ``importance``, ``cosine``,
    ``norm_ratio``. Its rows are those of `intervene`, and ``frame.merge(beside)`` joins the two.

    Raises
    ------
    InputError, UnsupportedModelError, ModelStateError
        As `intervene`.
    """
    reading = Reading(checked(model), batch)
    return said_of(reading, asked(reading, by, effect, tokens, sublayers, terms, layers))


def checked(model: PreTrainedModel) -> PreTrainedModel:
    """The model, if its head is linear: an encoder is refused, in words, before anything is computed."""
    check_model(model)
    linear_head(model)
    return model


# --- what is asked for ---


def asked(
    reading: Reading,
    by: str = "sublayer",
    effect: str = "direct",
    tokens: str = "grouped",
    sublayers: str = "grouped",
    terms: str | Sequence[str] | None = None,
    layers: int | Sequence[int | None] | None = None,
) -> Asked:
    """The interventions that arguments of `intervene` stand for.

    Raises
    ------
    InputError
        As `intervene`.
    """
    check_choice("by", by, METHODS)
    check_choice("effect", effect, EFFECTS)
    check_choice("tokens", tokens, TOKENS)
    check_choice("sublayers", sublayers, SUBLAYERS)
    if effect == "total" and (by == "token" or sublayers == "each"):
        raise InputError(
            "effect='total' needs by='sublayer' and sublayers='grouped': what is replaced is what a kind of sublayer "
            "writes, in the layers that layers= names (each by itself, by default)."
        )
    if by == "sublayer" and tokens == "each":
        raise InputError("tokens='each' needs by='token': by sublayer, parts have no tokens.")
    if by == "token" and sublayers == "each":
        raise InputError("sublayers='each' needs by='sublayer': by token, parts travel through all sublayers.")
    if effect == "direct":
        there = reading.parts(by, tokens, sublayers).terms
        allowed = there[:-1] if tokens == "each" else there
        numbers: Sequence[int | None] = [reading.last_layer]
    else:
        allowed = reading.row.terms[1:-1]
        numbers = [None, *range(1, reading.last_layer + 1)]
    wanted = list(dict.fromkeys(allowed if terms is None else [terms] if isinstance(terms, str) else terms))
    one_or_more: Any = numbers if layers is None else [layers] if pd.api.types.is_scalar(layers) else layers
    chosen = list(dict.fromkeys(None if pd.isna(layer) else layer for layer in one_or_more))  # a frame's layers too
    _check_named("terms", terms, [member for term in wanted for member in str(term).split("+")], allowed, effect, by)
    _check_named("layers", layers, chosen, numbers, effect, by)
    for term in wanted:
        if len(set(term.split("+"))) < len(term.split("+")):
            raise InputError(f"terms: {term!r} names a part twice, which can be replaced once.")
    return Asked(
        by,
        effect,
        tokens,
        sublayers,
        tuple(Intervention(term, tuple(term.split("+")), layer) for layer in chosen for term in wanted),
    )


def _check_named(
    name: str, argument: object, given: Sequence[object], known: Sequence[object], effect: str, by: str
) -> None:
    """Raise InputError unless ``given``, what the argument stands for, names something, and only what is known."""
    if not given:
        raise InputError(f"{name}=[] names nothing to replace. Leave it out for all, or name some of {tuple(known)}.")
    for one in given:
        if one not in known or isinstance(one, bool):
            raise InputError(
                f"{name}={argument!r}: {one!r} is none of those that there are for effect={effect!r} and by={by!r}: "
                f"{tuple(known)}."
            )


def replacement_of(reading: Reading, ask: Asked, replace: str, means: Means | None, seed: int) -> Replacement:
    """What the parts are replaced by, if it can be had.

    Raises
    ------
    InputError
        As `intervene`.
    """
    check_choice("replace", replace, REPLACEMENTS)
    if ask.tokens == "each" and replace != "zero":
        raise InputError(
            f"replace={replace!r} with tokens='each': the part of one token of one sentence has no counterpart in a "
            "mean or in another sentence. Pass replace='zero'."
        )
    if means is not None:
        if replace not in ("mean", "pooled"):
            raise InputError(f"means= are for replace='mean' or 'pooled'; with replace={replace!r} leave them out.")
        if not isinstance(means, Means):
            raise InputError(f"means is a {type(means).__name__}: Means are wanted, which take_means makes.")
        means.check(reading.model)
    return Replacement(reading, replace, means, seed)


# --- effects, and what stands beside them ---


def effects_of(reading: Reading, ask: Asked, replacement: Replacement) -> pd.DataFrame:
    """The frame of `intervene`."""
    rows = reading.rows
    states = reading.parts(ask.by, ask.tokens, ask.sublayers).states[0][rows.sentence, rows.position]  # (token, dim)
    make = _of_parts if ask.effect == "direct" else _of_sublayers
    changes = torch.stack([change[rows.sentence, rows.position] for change in make(reading, ask, replacement)])
    wanted = _wanted(reading, ask)
    found = label_effects(reading.model, states, changes, rows.label, wanted)  # (2, intervention, token)
    return _framed(reading, ask, wanted, dict(zip(("logprob", "logit"), found, strict=True)))


def said_of(reading: Reading, ask: Asked) -> pd.DataFrame:
    """The frame of `beside_effects`."""
    rows, found = reading.rows, []
    labels = torch.zeros_like(reading.batch.mask, dtype=torch.long)
    labels[rows.sentence, rows.position] = rows.label
    for one in ask.interventions:
        each = ask.effect == "total" and one.layer is not None
        parts = reading.parts(ask.by, ask.tokens, "each" if each else ask.sublayers)
        members = [parts.terms.index(f"{term}{one.layer}" if each else term) for term in one.members]
        found.append(_told(reading, parts, members, labels)[:, rows.sentence, rows.position])
    values = torch.stack(found, dim=1)  # (column, intervention, token)
    return _framed(reading, ask, _wanted(reading, ask), dict(zip(BESIDE, values, strict=True)))


def _of_parts(reading: Reading, ask: Asked, replacement: Replacement) -> Iterator[torch.Tensor]:
    """The changes of the last states, r - x_k, of shape (sentence, position, dim), one an intervention."""
    parts = reading.parts(ask.by, ask.tokens, ask.sublayers)
    for one in ask.interventions:
        change = torch.zeros_like(parts.states[0])
        for term in one.members:
            part = parts.vectors[0, parts.terms.index(term)]
            change += replacement.of(f"{ask.by} {term}", part) - part
        yield change


def _of_sublayers(reading: Reading, ask: Asked, replacement: Replacement) -> Iterator[torch.Tensor]:
    """The changes of the last states when sublayers are replaced, likewise."""
    yield from rewritten(reading, replacement, [(one.members, one.layer) for one in ask.interventions])


def _told(reading: Reading, parts: Parts, members: list[int], labels: torch.Tensor) -> torch.Tensor:
    """Share, importance, cosine and norm ratio of the sum of some parts, of shape (column, sentence, position)."""
    shares = reading.once(("shares", id(parts)), lambda: logit_shares(parts, reading.model, labels[..., None])[..., 0])
    if len(members) == 1:
        values = reading.once(("values", id(parts)), lambda: of_vectors(parts.vectors[0], parts.states[0]))
        values = values[:3, members[0]]
    else:  # those parts are one part of the same sum
        others = [k for k in range(len(parts.terms)) if k not in members]
        vectors = torch.cat([parts.vectors[0, members].sum(dim=0, keepdim=True), parts.vectors[0, others]])
        values = of_vectors(vectors, parts.states[0])[:3, 0]
    return torch.cat([shares[members].sum(dim=0, keepdim=True), values])


def _wanted(reading: Reading, ask: Asked) -> torch.Tensor:
    """Which (intervention, token) have a row: of a single token's part, those whose state can have read that token."""
    rows = reading.rows
    wanted = torch.ones(len(ask.interventions), len(rows.label), dtype=torch.bool, device=rows.label.device)
    if ask.tokens == "grouped":
        return wanted
    source = reading.batch.attention_mask.bool()
    pair = reading.row.kind == "encoder-decoder"
    for number, one in enumerate(ask.interventions):
        reads = torch.zeros_like(wanted[number])
        for term in one.members:
            side, place = term[0], int(term[1:])
            if side == "S":
                reads |= source[rows.sentence, place]
            else:
                reads |= (rows.position >= place) & (True if pair else source[rows.sentence, place])
        wanted[number] = reads
    return wanted


def _framed(reading: Reading, ask: Asked, wanted: torch.Tensor, values: dict[str, torch.Tensor]) -> pd.DataFrame:
    rows = reading.rows
    number, token = wanted.nonzero(as_tuple=True)
    at = number.cpu().numpy()
    layers = pd.array([one.layer for one in ask.interventions], dtype="Int64")
    frame = {
        "effect": ask.effect,
        "by": ask.by,
        "layer": layers[at],
        "term": pd.Series([one.term for one in ask.interventions], dtype=object).to_numpy()[at],
        "sentence": rows.sentence[token].cpu().numpy(),
        "position": rows.position[token].cpu().numpy(),
    }
    frame |= {name: value[number, token].cpu().double().numpy() for name, value in values.items()}
    return pd.DataFrame(frame)
