"""Rollout and ALTI: from what each attention mixes, layer by layer, to what each decoder state holds of each token.

Each state is taken for a mixture of the tokens, source and target. An attention that reads X with residual e makes

    D  <-  k D + M X        D: the mixture, (position, token); k: what stays, (position,); M: (position, read position)

with X = D for self-attention and X = [E | 0] for cross-attention, E the encoder's own last mixture. Both start from the
identity: the encoder's on the source, the decoder's on the target. Feed-forwards mix no tokens, and are passed over.
Rows of k and M sum to one together, and so do those of D.

    rollout    k = 1/2,  M = A / 2                     A: attention weights, their mean over heads
    ALTI       c_j = max(0, |y|_1 - |y - T(x_j)|_1)    M: the c_j divided by their sum, per position

with y what an attention block gives (residual and norm included) and T(x_j) what token j adds to it,

    post-norm  T_t(x_j) = L_t(W_O A_tj W_V x_j + [j = t] x_t),   L_t(v) = g (v - m(v)) / s_t
    pre-norm   T_t(x_j) = W_O A_tj W_V n(x_j) + [j = t] x_t

Biases are no token's. In cross-attention the residual is a part by itself: its share is k. The encoder-decoder form of
rollout has no equation in its paper, and is the plain one: the residual of a cross-attention keeps a half. Where no c_j
is above zero, and ALTI is undefined, the residual keeps all.

References
----------
Abnar & Zuidema (2020), Quantifying Attention Flow in Transformers, ACL.
Ferrando, Gállego & Costa-jussà (2022), Measuring the Mixing of Contextual Information in the Transformer, EMNLP.
Ferrando et al. (2022), Towards Opening the Black Box of Neural Machine Translation, EMNLP (ALTI+).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn.functional import linear

from addends.decomposition.record import AttentionSublayer, Capture, StackRecord


class Mixing(NamedTuple):
    """What one attention mixes: shares of its output that sum to one over what stays and all that it reads.

    Attributes
    ----------
    keep : Tensor of shape (sentence, position)
        What stays of the state's own mixture.
    mix : Tensor of shape (sentence, position, read position)

    Examples
    --------
    >>> mixing = Mixing(torch.full((1, 2), 0.5), torch.tensor([[[0.5, 0.0], [0.2, 0.3]]]))
    >>> mixing.keep + mixing.mix.sum(dim=-1)
    tensor([[1., 1.]])
    """

    keep: torch.Tensor
    mix: torch.Tensor


MixingOf = Callable[[AttentionSublayer, StackRecord, torch.Tensor], Mixing]


def rolled_out(record: Capture, mixing_of: MixingOf) -> torch.Tensor:
    """What each decoder state after the last layer holds of each token, by `half_kept` or by `by_distance`.

    Parameters
    ----------
    record : Capture
        With attention weights and the encoder.

    Returns
    -------
    Tensor of shape (sentence, position, source + target)
        Rows sum to one; the source's tokens stand first.
    """
    assert record.encoder is not None
    assert record.encoder_states is not None
    encoder = _identity(record.encoder.states[0])
    for sublayer in _attentions(record.encoder):
        keep, mix = mixing_of(sublayer, record.encoder, record.encoder_states)
        encoder = keep[..., None] * encoder + mix @ encoder
    own = _identity(record.main.states[0])
    decoder = torch.cat([own.new_zeros(*own.shape[:2], encoder.shape[1]), own], dim=-1)  # (sentence, position, token)
    source = torch.cat([encoder, own.new_zeros(*encoder.shape[:2], own.shape[1])], dim=-1)  # (sentence, source, token)
    for sublayer in _attentions(record.main):
        keep, mix = mixing_of(sublayer, record.main, record.encoder_states)
        decoder = keep[..., None] * decoder + mix @ (source if sublayer.place.reads == "encoder" else decoder)
    return decoder


def half_kept(sublayer: AttentionSublayer, record: StackRecord, encoder_states: torch.Tensor) -> Mixing:
    """Rollout's mixing: half of the state stays, the other half is mixed by the weights."""
    half = sublayer.weights.to(encoder_states.dtype).mean(dim=1) / 2  # (sentence, position, read position)
    return Mixing(torch.full_like(half[..., 0], 0.5), half)


def by_distance(sublayer: AttentionSublayer, record: StackRecord, encoder_states: torch.Tensor) -> Mixing:
    """ALTI's mixing: how near each token's transformed vector comes to what the block gives."""
    post, cross = record.stack.norm == "post", sublayer.place.reads == "encoder"
    residual = sublayer.norm.read - sublayer.written if post else sublayer.norm.read  # (sentence, position, dim)
    after = sublayer.norm.gave if post else residual + sublayer.written
    read = encoder_states if cross else residual if post else sublayer.norm.gave
    whole, scaled = after.abs().sum(dim=-1), sublayer.norm.scaled("own")

    def nearness(part: torch.Tensor) -> torch.Tensor:
        if post and scaled.gain is not None:
            part = (part - part.mean(dim=-1, keepdim=True) if scaled.centres else part) * scaled.gain
        return (whole - (after - part).abs().sum(dim=-1)).clamp(min=0)

    values = linear(read, sublayer.value_map.weight).unflatten(-1, (-1, sublayer.inner))
    values = values.repeat_interleave(
        sublayer.heads // values.shape[2], dim=2
    )  # (sentence, read position, head, inner)
    columns = []
    for place in range(read.shape[1]):  # one read position at a time: all at once would be large
        weights = sublayer.weights[..., place].transpose(1, 2)[..., None]  # (sentence, position, head, 1)
        part = linear((weights * values[:, None, place]).flatten(2), sublayer.output_map.weight)
        if not cross:
            part[:, place] += residual[:, place]
        columns.append(nearness(part))
    mix = torch.stack(columns, dim=-1)
    keep = nearness(residual) if cross else torch.zeros_like(whole)
    sublayer.forget()
    total = keep + mix.sum(dim=-1)
    undefined = total == 0
    keep, total = keep.masked_fill(undefined, 1), total.masked_fill(undefined, 1)
    return Mixing(keep / total, mix / total[..., None])


def _identity(states: torch.Tensor) -> torch.Tensor:
    """Of states (sentence, position, dim), each position the mixture of itself alone."""
    sentences, length = states.shape[:2]
    return torch.eye(length, dtype=states.dtype, device=states.device).expand(sentences, -1, -1)


def _attentions(record: StackRecord) -> list[AttentionSublayer]:
    return [sublayer for sublayer in record.sublayers if isinstance(sublayer, AttentionSublayer)]
