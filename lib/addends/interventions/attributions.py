"""Attributions: what each method says that a source token does for a row of the decoder, all on one axis.

    attention                 cross-attention weights, their mean over heads and layers; and those of the last layer
    rollout, alti             the mixture that a state is taken for: see `addends.interventions.mixing`
    gradient                  sum_i x_i d log p(y) / d x_i, of the token's embedding x (nats); signed
    gradient, length          the length of the same products, |x * d log p(y) / dx|
    part share                the share of the label's logit of the token's part by token, exact; signed
    part share, centred       the same less the part's share of the mean logit, sum_v p(v) logit_v: what a softmax sees
    part importance           <x, e> / |e|^2 of the same part of the last state; signed

The parts are taken twice: with the encoder's states as atoms, where a "token" is all that its place in the encoder has
gathered, and through the encoder, from the source's embeddings. To first order "gradient" is minus the change of log p
when an embedding is set to zero, and "part share, centred" that when a part is removed from the last state.

The gradients are autograd's own: one product a target position, of all sentences at once. Libraries for attribution
want a function of one output at a time, and a wrapper longer than this; for rollout and ALTI they would have to know
how each family keeps its cross-attention.

References
----------
Shrikumar et al. (2017), Learning important features through propagating activation differences, ICML (gradient x
input). Ding, Xu & Koehn (2019), Saliency-driven word alignment interpretation for NMT, WMT (the same in translation).
Atanasova et al. (2020), A diagnostic study of explainability techniques for text classification, EMNLP (its length).
Oh & Schuler (2023), Token-wise Decomposition of Autoregressive Language Model Hidden States, ACL (parts).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import pandas as pd
import torch
from torch.nn.functional import linear
from transformers import PreTrainedModel

from addends.decomposition import Batch, Parts, logit_shares
from addends.decomposition.by_token import propagate, terms_of
from addends.decomposition.exactness import check_sum
from addends.decomposition.indicators import of_vectors
from addends.decomposition.logits import linear_head
from addends.decomposition.parts import DEFAULT_CENTERING
from addends.decomposition.proofs import proven_capture
from addends.decomposition.record import AttentionSublayer, Capture
from addends.errors import UnsupportedModelError
from addends.interventions.mixing import by_distance, half_kept, rolled_out
from addends.interventions.reading import Reading
from addends.interventions.source_pass import last_states, pair_reading, source_embeddings, special_sources


def source_attributions(model: PreTrainedModel, batch: Batch, special_ids: Sequence[int] | None = None) -> pd.DataFrame:
    """What each method says that each source token does for each row that counts.

    Padding costs as much as tokens: batch sentences of about one length together, as `measure_agreement` does.

    Parameters
    ----------
    model : PreTrainedModel
        An encoder-decoder with a linear output head. It is left as it was.
    batch : Batch
        Made by `encode` or `translate`: with labels.
    special_ids : sequence of int, optional
        The ids that are special. By default those that the model's configuration names; a multilingual model's
        languages are not among them.

    Returns
    -------
    DataFrame
        Tidy: sentence, position, source (place in the padded source), special (whether that token is), method, value.
        Padding, on either side, has no rows.

    Raises
    ------
    InputError
        If the model has one stack only, model and batch do not fit, or the batch has no labels.
    UnsupportedModelError, ModelStateError
        As `decompose` with ``through_encoder=True``, and as `logit_shares`.

    Examples
    --------
    >>> frame = source_attributions(model, batch)
    >>> frame["method"].nunique(), frame["source"].nunique(), frame.query("special")["source"].unique().tolist()
    (12, 4, [3])
    """
    reading = pair_reading(model, batch)
    if reading.row.encoder is None or not reading.row.encoder.sublayers:
        raise UnsupportedModelError(
            f"The encoder of a {reading.row.model_type} attends by code of its own, whose weights cannot be recorded: "
            "rollout, ALTI and parts through the encoder cannot be had. source_removals needs no weights, and works."
        )
    record = proven_capture(model, batch, attention_weights=True, encoder=True)
    with torch.no_grad():
        found = _attention(record)
        found |= {"rollout": rolled_out(record, half_kept), "alti": rolled_out(record, by_distance)}
        found |= _of_parts(reading, record, through_encoder=False)
        found |= _of_parts(reading, record, through_encoder=True)
    found |= gradients(reading)
    length = batch.input_ids.shape[1]
    return source_frame(reading, special_ids, "method", "value", {key: at[..., :length] for key, at in found.items()})


def source_frame(
    reading: Reading, special_ids: Sequence[int] | None, key: str, column: str, values: dict[str, torch.Tensor]
) -> pd.DataFrame:
    """Named values (sentence, position, source) as rows, for each row that counts and each real source token."""
    mask, real = reading.labelled[1], reading.batch.attention_mask.bool()
    pairs = mask[:, :, None] & real[:, None, :]
    sentence, position, source = (axis.cpu().numpy() for axis in pairs.nonzero(as_tuple=True))  # (pair,) each
    places = {"sentence": sentence, "position": position, "source": source}
    special = special_sources(reading, special_ids).cpu().numpy()[sentence, source]
    frames = [
        pd.DataFrame({**places, "special": special, key: name, column: value[pairs].cpu().double().numpy()})
        for name, value in values.items()
    ]
    return pd.concat(frames, ignore_index=True)


def gradients(reading: Reading) -> dict[str, torch.Tensor]:
    """Gradient x input of the labels' log-probabilities by the source's embeddings, summed up, and its length.

    Returns
    -------
    dict of str to Tensor of shape (sentence, position, source)
        Zero in rows that do not count.
    """
    weight, scale, bias = linear_head(reading.model)
    labels, mask = reading.labelled
    with torch.inference_mode(False), torch.enable_grad():
        embedded = source_embeddings(reading.model, reading.batch).clone().requires_grad_()
        states = last_states(reading, embedded=embedded)  # (sentence, position, dim)
        head, added = weight.detach().to(states.dtype), None if bias is None else bias.detach().to(states.dtype)
        products = []
        for place in range(mask.shape[1]):
            count = mask[:, place]
            logits = linear(scale * states[count, place], head, added)  # (row, vocabulary)
            said = logits.log_softmax(dim=-1).gather(-1, labels[count, place][:, None])
            # Sentences do not read each other: of the sum over sentences, each has its own gradient.
            (gradient,) = torch.autograd.grad(said.sum(), embedded, retain_graph=True)
            product = gradient.detach() * embedded.detach()  # (sentence, source, dim)
            products.append(torch.stack([product.sum(dim=-1), product.norm(dim=-1)]))
    signed, length = torch.stack(products, dim=2)  # (sentence, position, source) each
    return {"gradient": signed, "gradient, length": length}


def _attention(record: Capture) -> dict[str, torch.Tensor]:
    """The cross-attention's weights, (sentence, position, source)."""
    weights = [
        sublayer.weights.mean(dim=1)
        for sublayer in record.main.sublayers
        if isinstance(sublayer, AttentionSublayer) and sublayer.place.reads == "encoder"
    ]
    return {"attention": torch.stack(weights).mean(dim=0), "attention, last layer": weights[-1]}


def _of_parts(reading: Reading, record: Capture, through_encoder: bool) -> dict[str, torch.Tensor]:
    """Share and importance of each source token's part of the last state, (sentence, position, source)."""
    centering, state = DEFAULT_CENTERING["token"], record.main.states[-1]
    mask, model = reading.batch.mask, reading.model
    layers = propagate(record, centering, tokens="each", through_encoder=through_encoder)
    vectors = deque(layers, maxlen=1).pop()  # (term, sentence, position, dim), of the last layer
    check_sum(vectors, state, mask, len(record.main.states) - 1, model)
    count, terms = reading.batch.input_ids.shape[1], terms_of(record, "each")
    single = vectors[:count]
    parts = Parts(vectors[None], state[None], mask, terms, "token", centering)
    labels, labelled = reading.labelled
    shares = logit_shares(parts, model, labels.where(labelled, 0)[..., None])[:count, ..., 0]
    importance = of_vectors(vectors, state)[0, :count]  # (source, sentence, position)
    slope = reading.once(("slope",), lambda: _slope(reading, state))  # (row, dim)
    centred = torch.zeros_like(importance)
    centred[:, labelled] = torch.einsum("krd,rd->kr", single[:, labelled], slope)
    where = ", through encoder" if through_encoder else ""
    values = {
        f"part share{where}": shares,
        f"part share, centred{where}": centred,
        f"part importance{where}": importance,
    }
    return {name: value.permute(1, 2, 0) for name, value in values.items()}


def _slope(reading: Reading, state: torch.Tensor) -> torch.Tensor:
    """d log p(y) / d e = s (w_y - sum_v p(v) w_v) at each row's last state, of shape (row, dim)."""
    given, scale, bias = linear_head(reading.model)
    weight, bias = given.detach().to(state.dtype), None if bias is None else bias.detach().to(state.dtype)
    found = []
    for place, label in enumerate(reading.rows.label):  # a row at a time: vocabularies are large
        one = state[reading.rows.sentence[place], reading.rows.position[place]]
        said = linear(scale * one, weight, bias).softmax(dim=-1)  # (vocabulary,)
        found.append(scale * (weight[label] - said @ weight))
    return torch.stack(found)
