"""Stitching: one run's decoder reads what another run made, through a map.

Two places are cut. At the encoder's output, B's decoder reads map(A's encoder states): B translates A's reading of a
source. Inside the decoder, after layer l, B's layers above l go on from map(A's state): A's lower layers have read A's
encoder, B's upper layers read B's.

What each map's success would mean: `addends.interventions.maps` orders them by what they know of the other space. At
the encoder's output any invertible linear map could be absorbed by the decoder's key and value maps, so that two runs
may say the same in different coordinates. Between decoder layers a LayerNorm's gains single out coordinates: a rotation
is no symmetry there.

A map may also be trained on B's own loss, all else frozen (`train_map`). What it reaches from a run that has learnt
nothing is the map's own doing.

References
----------
Lenc and Vedaldi (2015), Understanding image representations by measuring their equivariance and equivalence, CVPR.
Bansal, Nakkiran and Barak (2021), Revisiting model stitching to compare neural representations, NeurIPS.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from addends.decomposition import Batch, architecture_of
from addends.decomposition.ambient import own_thread
from addends.decomposition.capture import removed
from addends.errors import InputError
from addends.interventions.maps import StateMap

Mapping = Callable[[torch.Tensor], torch.Tensor]


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


def train_map(
    reader: PreTrainedModel,
    read: PreTrainedModel,
    start: StateMap,
    batches: Sequence[Batch],
    steps: int = 300,
    learning_rate: float = 1e-3,
    seed: int = 0,
    progress: bool = True,
) -> nn.Linear:
    """The affine map that makes ``reader``, reading ``read``'s encoder, say the references: all else is frozen.

    Adam on the mean loss of a batch's real tokens, in nats, with a rate that falls linearly to 0; the batches in an
    order drawn anew each time all were seen.

    Parameters
    ----------
    start : StateMap
        Where the training starts, such as the best affine map of states.
    batches : sequence of Batch
        Training sentences with their references, as ``read`` and ``reader`` both tokenize them.
    steps, learning_rate, seed
        Of the training; ``seed`` is of the order.

    Returns
    -------
    Linear
        The map, for `reading`; its weights take no more gradients.

    Raises
    ------
    InputError
        As `reading`; or if there is no batch, one lacks labels, or there is no step.
    """
    check_stitchable(reader, read)
    if not batches or steps < 1 or any(batch.labels is None or batch.decoder_input_ids is None for batch in batches):
        raise InputError(
            f"train_map: {len(batches)} batches, steps={steps}: one or more of each are wanted, with labels (encode)."
        )
    layer = as_module(start, next(reader.parameters()))
    optimizer = torch.optim.Adam(layer.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    states = [encoder_states(read, batch.input_ids, batch.attention_mask) for batch in batches]  # frozen: once for all
    generator = np.random.default_rng(seed)
    order: list[int] = []
    with frozen(reader), torch.enable_grad():
        for _ in tqdm(range(steps), disable=not progress, unit="step", desc="train_map"):
            order = order or list(generator.permutation(len(batches)))
            place = order.pop()
            optimizer.zero_grad()
            loss_of(reader, batches[place], layer(states[place])).backward()
            optimizer.step()
            schedule.step()
    return layer.requires_grad_(False)


def loss_of(reader: PreTrainedModel, batch: Batch, states: torch.Tensor) -> torch.Tensor:
    """The mean over a batch's real tokens of -log p(label), in nats, the decoder reading ``states``."""
    from transformers.modeling_outputs import BaseModelOutput

    logits = reader(
        encoder_outputs=BaseModelOutput(last_hidden_state=states),  # type: ignore[arg-type]
        attention_mask=batch.attention_mask,
        decoder_input_ids=batch.decoder_input_ids,
        use_cache=False,
    ).logits  # (sentence, position, vocabulary)
    assert batch.labels is not None
    return nn.functional.cross_entropy(logits[batch.mask], batch.labels[batch.mask])


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
