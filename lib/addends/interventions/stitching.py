"""Stitching: one run's decoder reads what another run made, through a map.

Two places are cut. At the encoder's output, B's decoder reads map(A's encoder states): B translates A's reading of a
source. Inside the decoder, after layer l, B's layers above l go on from map(A's state): A's lower layers have read A's
encoder, B's upper layers read B's.

What each map's success would mean: `addends.interventions.maps` orders them by what they know of the other space. At
the encoder's output any invertible linear map could be absorbed by the decoder's key and value maps, so that two runs
may say the same in different coordinates. Between decoder layers a LayerNorm's gains single out coordinates: a rotation
is no symmetry there.

A map may also be trained on B's own loss, all else frozen (`train_maps`). What it reaches from a run that has learnt
nothing is the map's own doing.

References
----------
Lenc and Vedaldi (2015), Understanding image representations by measuring their equivariance and equivalence, CVPR.
Bansal, Nakkiran and Barak (2021), Revisiting model stitching to compare neural representations, NeurIPS.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from addends.decomposition import Batch, architecture_of
from addends.decomposition.ambient import own_thread
from addends.decomposition.capture import removed
from addends.decomposition.logits import linear_head
from addends.decomposition.translation import beginning, end_symbols, generation_options
from addends.errors import InputError
from addends.interventions.maps import StateMap

Mapping = Callable[[torch.Tensor], torch.Tensor]

FIRST = 16  # tokens that a translation is first given: most have ended by then


def as_module(of: StateMap, like: torch.Tensor) -> nn.Linear:
    """The map as a layer, y = W'x + (n - m W), in the type and on the device of ``like``."""
    dim_read, dim_written = of.weight.shape
    # Without its first weights: they would be drawn from torch's global generator.
    layer = nn.utils.skip_init(nn.Linear, dim_read, dim_written, dtype=like.dtype, device=like.device)
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(of.weight.T))
        layer.bias.copy_(torch.as_tensor(of.written_mean - of.read_mean @ of.weight))
    return layer


def encoder_states(model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """What the model's encoder makes of a source, of shape (sentence, read position, dim)."""
    base: Any = model.base_model
    with torch.no_grad():
        return base.get_encoder()(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


@contextlib.contextmanager
def reading(reader: PreTrainedModel, read: PreTrainedModel, by: Mapping) -> Iterator[None]:
    """Within the block, the decoder of ``reader`` reads the encoder of ``read``, through the map ``by``.

    Whatever is asked of ``reader`` (`translate`, its loss, a decomposition) is then asked of the two together. Neither
    model is changed; the hook is gone after the block, whatever happens in it. Other threads' passes are left alone.

    Raises
    ------
    InputError
        If one of the two is no encoder-decoder, or they embed different numbers of source tokens.
    """
    check_stitchable(reader, read)
    encoder = reader.base_model.get_encoder()  # type: ignore[operator]

    def replaced(_module: nn.Module, arguments: tuple, keywords: dict, output: Any) -> Any:
        states = output["last_hidden_state"]
        if read is not reader:
            ids = keywords["input_ids"] if "input_ids" in keywords else arguments[0]
            states = encoder_states(read, ids, keywords["attention_mask"])
        output["last_hidden_state"] = by(states)
        return output

    with removed(encoder.register_forward_hook(own_thread(replaced), with_kwargs=True)):
        yield


@contextlib.contextmanager
def going_on(reader: PreTrainedModel, layer: int, states: torch.Tensor) -> Iterator[None]:
    """Within the block, the decoder layers of ``reader`` above ``layer`` go on from ``states``.

    Parameters
    ----------
    layer : int
        From 0, in front of the first decoder layer, to the number of layers less one.
    states : Tensor of shape (sentence, position, dim)
        Already mapped. The pass within the block is to be of the same batch.

    Raises
    ------
    InputError
        If there is no such layer; or, by a pass within the block, if the shapes differ.
    """
    row = architecture_of(reader.config)
    layers: Any = reader.base_model.get_submodule(row.stack.layers)
    if not 0 <= layer < len(layers):
        raise InputError(f"layer={layer}: states can be put in front of layers 0 to {len(layers) - 1}.")

    def replaced(_module: nn.Module, arguments: tuple, keywords: dict) -> tuple[tuple, dict]:
        own = arguments[0] if arguments else keywords["hidden_states"]
        if own.shape != states.shape:
            raise InputError(
                f"states of shape {tuple(states.shape)} for a pass with {tuple(own.shape)}: they are to be of the same "
                "batch, in the dimension of the model that reads."
            )
        if arguments:
            return (states, *arguments[1:]), keywords
        return arguments, {**keywords, "hidden_states": states}

    with removed(layers[layer].register_forward_pre_hook(own_thread(replaced), with_kwargs=True)):
        yield


def by_length(batch: Batch, size: int) -> list[Batch]:
    """The sentences of a batch, so many at a time, those of like length together and without what only others need.

    What a decoder makes of a sentence is the same in both: padding stands behind its targets, and is masked in its
    source. The order is by target tokens.

    >>> source, target = torch.tensor([[5, 6, 7], [5, 0, 0]]), torch.tensor([[8, 9], [8, 0]])
    >>> batch = Batch(source, (source > 0).long(), target, target > 0)
    >>> [tuple(piece.input_ids.shape) for piece in by_length(batch, 1)]
    [(1, 1), (1, 3)]

    Raises
    ------
    InputError
        If the size is less than 1, or the batch has one side alone.
    """
    if size < 1 or batch.decoder_input_ids is None:
        raise InputError(f"by_length: size={size}: 1 or more is wanted, of a batch with sources and targets (encode).")
    order = batch.mask.sum(dim=1).argsort(stable=True)
    pieces = []
    for rows in order.split(size):
        source, target = batch.attention_mask[rows].bool().any(dim=0), batch.mask[rows].any(dim=0)
        sides = dict.fromkeys(("input_ids", "attention_mask"), source)
        cut: dict[str, Any] = {name: tensor[rows][:, sides.get(name, target)] for name, tensor in batch.tensors.items()}
        texts = None if batch.texts is None else tuple(batch.texts[row] for row in rows.tolist())
        pieces.append(replace(batch, **cut, texts=texts, truncated=()))
    return pieces


def losses_of(reader: PreTrainedModel, batch: Batch, states: torch.Tensor) -> torch.Tensor:
    """-log p(label) of a batch's real tokens, in nats, the decoder reading ``states``; of shape (token,).

    Raises
    ------
    InputError
        If the batch has no labels.
    """
    from transformers.modeling_outputs import BaseModelOutput

    if batch.labels is None:
        raise InputError("The batch has no labels. Make it with encode(model, tokenizer, sources, targets).")
    base: Any = reader.base_model
    output = base(
        encoder_outputs=BaseModelOutput(last_hidden_state=states),  # type: ignore[arg-type]
        attention_mask=batch.attention_mask,
        decoder_input_ids=batch.decoder_input_ids,
        use_cache=False,
    )
    # The head, which is half of the work, reads real tokens alone.
    weight, scale, bias = linear_head(reader)
    logits = nn.functional.linear(scale * output.last_hidden_state[batch.mask], weight, bias)  # (token, vocabulary)
    return nn.functional.cross_entropy(logits, batch.labels[batch.mask], reduction="none")


def translate_states(
    reader: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    states: torch.Tensor,
    attention_mask: torch.Tensor,
    most: int,
) -> list[str]:
    """What the decoder says when it reads ``states``: greedily, and ``most`` tokens at most, as `translate` does.

    Most translations end early, and a few never do. So each is first given a few tokens, and what has not ended
    by then begins again with twice as many, in a batch without the others.

    Parameters
    ----------
    states : Tensor of shape (sentence, read position, dim)
        Already mapped.

    Raises
    ------
    InputError
        If ``most`` is less than 1, or more than the model's positions.
    """
    from transformers.modeling_outputs import BaseModelOutput

    writer: Any = reader
    begin, ends = beginning(reader, tokenizer, {}), end_symbols(reader, {})
    options = generation_options(reader, {"max_new_tokens": most})
    texts, left, tokens = [""] * len(states), torch.arange(len(states), device=states.device), min(FIRST, most)
    while len(left):
        kept = attention_mask[left].bool().any(dim=0)
        read, mask = states[left][:, kept], attention_mask[left][:, kept]
        with torch.no_grad():
            outputs = BaseModelOutput(last_hidden_state=read)  # type: ignore[arg-type]
            said = writer.generate(
                encoder_outputs=outputs, attention_mask=mask, **{**options, "max_new_tokens": tokens}, **begin
            )
        # A model may be made to end with its last token: an end symbol there says nothing.
        labels = said[:, 1:]
        ended = torch.isin(labels[:, : tokens - 1], labels.new_tensor(ends)).any(dim=1)
        done = ended | (tokens == most)
        spoken = tokenizer.batch_decode(said, skip_special_tokens=True)
        for row, text, whole in zip(left.tolist(), spoken, done.tolist(), strict=True):
            if whole:
                texts[row] = text
        left, tokens = left[~done], min(2 * tokens, most)
    return texts


def train_maps(
    reader: PreTrainedModel,
    starts: Sequence[StateMap],
    batches: Sequence[Sequence[tuple[Batch, Sequence[torch.Tensor]]]],
    steps: int = 300,
    learning_rate: float = 1e-3,
    seed: int = 0,
    progress: bool = True,
) -> list[nn.Linear]:
    """The affine maps that make ``reader``, reading other runs' encoders, say the references: all else is frozen.

    Each map by itself, on the same sentences: Adam on the mean loss of a batch's real tokens, in nats, with a rate that
    falls linearly to 0; the batches in an order drawn anew each time all were seen. The maps share their passes alone,
    since one pass of many sentences takes less time than many of few.

    Parameters
    ----------
    starts : sequence of StateMap
        For each encoder, where the training starts, such as the best affine map of its states.
    batches : sequence of sequences of (Batch, sequence of Tensor)
        For each step's batch, its pieces (`by_length`), each with what every encoder makes of it (`encoder_states`).
        Training sentences with their references, as all runs tokenize them.
    steps, learning_rate, seed
        Of the training; ``seed`` is of the order.

    Returns
    -------
    list of Linear
        The maps, for `reading`; their weights take no more gradients.

    Raises
    ------
    InputError
        If there is no map or no batch, one lacks labels, there is no step, or states are not of their batch's sources.
    """
    pieces = [piece for each in batches for piece in each]
    if not starts or not pieces or steps < 1 or any(piece.labels is None for piece, _ in pieces):
        raise InputError(
            f"train_maps: {len(starts)} maps, {len(batches)} batches, steps={steps}: one or more of each are wanted, "
            "with labels (encode)."
        )
    for piece, read in pieces:
        shapes = [tuple(states.shape[:2]) for states in read]
        if shapes != [tuple(piece.input_ids.shape)] * len(starts):
            raise InputError(
                f"train_maps: states of {shapes} for {len(starts)} maps and sources of {tuple(piece.input_ids.shape)}. "
                "Give for each map what its encoder makes of this very batch (encoder_states)."
            )
    layers = [as_module(start, next(reader.parameters())) for start in starts]
    optimizer = torch.optim.Adam([weight for layer in layers for weight in layer.parameters()], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    generator = np.random.default_rng(seed)
    order: list[int] = []
    with frozen(reader), torch.enable_grad():
        for _ in tqdm(range(steps), disable=not progress, unit="step", desc="train_maps"):
            order = order or list(generator.permutation(len(batches)))
            chosen = batches[order.pop()]
            tokens = sum(int(piece.mask.sum()) for piece, _ in chosen)
            optimizer.zero_grad()
            for piece, read in chosen:
                mapped = torch.cat([layer(states) for layer, states in zip(layers, read, strict=True)])
                # A sum over maps: the gradient of each is that of its own loss.
                (losses_of(reader, _repeated(piece, len(layers)), mapped).sum() / tokens).backward()
            optimizer.step()
            schedule.step()
    return [layer.requires_grad_(False) for layer in layers]


def _repeated(batch: Batch, times: int) -> Batch:
    tensors: dict[str, Any] = {name: tensor.repeat(times, 1) for name, tensor in batch.tensors.items()}
    return replace(batch, **tensors, texts=None, truncated=())


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Within the block, no weight of the model takes a gradient; afterwards each is as it was."""
    before = [(weight, weight.requires_grad) for weight in model.parameters()]
    try:
        model.requires_grad_(False)
        yield
    finally:
        for weight, wanted in before:
            weight.requires_grad_(wanted)


def check_stitchable(reader: PreTrainedModel, read: PreTrainedModel) -> None:
    """Raise InputError unless both are encoder-decoders that embed the same number of source tokens."""
    for name, model in (("reader", reader), ("read", read)):
        if architecture_of(model.config).kind != "encoder-decoder":
            raise InputError(f"{name} is a {model.config.model_type}, which has no encoder: nothing can be stitched.")
    sizes = [model.get_input_embeddings().num_embeddings for model in (reader, read)]  # type: ignore[union-attr]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"The models embed {sizes[0]} and {sizes[1]} pieces: they have different vocabularies, and do not read the "
            "same tokens. Stitch runs that share their vocabulary."
        )
