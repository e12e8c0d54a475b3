"""A pass of the model's own code in which sublayers write what they are told, and all that reads them reacts.

What is replaced is a sublayer's output, of an attention after its output map, of a feed-forward after its second, with
their biases. Hooks do it, as in `addends.decomposition.capture`: they are of the thread that sets them, and are gone
afterwards, even when an error passes through.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from addends.decomposition.ambient import own_thread, undisturbed
from addends.decomposition.batch import inputs_of
from addends.decomposition.capture import goes_through_float32, recorded_weights, removed, run
from addends.decomposition.linear import widened
from addends.decomposition.record import Sublayer
from addends.interventions.reading import Reading
from addends.interventions.replacing import Replacement


def rewritten(
    reading: Reading, replacement: Replacement, chosen: Iterable[tuple[tuple[str, ...], int | None]]
) -> Iterator[torch.Tensor]:
    """Yield the change of the last states by each intervention, of shape (sentence, position, dim).

    Parameters
    ----------
    chosen : iterable of (kinds, layer)
        Which sublayers an intervention replaces: those of these kinds, in this layer, or, None, in all.
    """
    before = last_states(reading, {})
    for kinds, number in chosen:
        outputs = {}
        for at, layer in enumerate(reading.capture.main.layers, start=1):
            for sublayer in layer:
                if sublayer.place.term in kinds and number in (None, at):
                    name = f"output {sublayer.place.term}{at}"
                    outputs[writer(sublayer)] = replacement.of(name, sublayer.written)
        yield last_states(reading, outputs) - before


def writer(sublayer: Sublayer) -> nn.Module:
    """The module whose output is what the sublayer writes."""
    return sublayer.modules.get("output") or sublayer.modules["second"]


def last_states(reading: Reading, outputs: Mapping[nn.Module, torch.Tensor]) -> torch.Tensor:
    """The states after the last layer, past any final norm, where these modules give these outputs.

    An encoder is not run again: its states are those of the reading's own pass.

    Parameters
    ----------
    outputs : mapping of Module to Tensor of shape (sentence, position, dim)

    Returns
    -------
    Tensor of shape (sentence, position, dim)
    """
    model, row, caught = reading.model, reading.row, []
    base, encoder_states = model.base_model, reading.capture.encoder_states
    inputs = inputs_of(row, model, reading.batch)
    if encoder_states is not None:
        del inputs["input_ids"]
        inputs["encoder_outputs"] = BaseModelOutput(last_hidden_state=encoder_states.to(model.dtype))

    def catch(_module: nn.Module, _inputs: tuple, output: Any) -> None:
        caught.append(output["last_hidden_state"])

    def give(values: torch.Tensor) -> Any:
        def hook(_module: nn.Module, _inputs: tuple, output: Any) -> Any:
            if isinstance(output, tuple):
                return (values.to(output[0]).reshape(output[0].shape), *output[1:])
            return values.to(output).reshape(output.shape)  # two dimensions: OPT's (sentence * position, dim)

        return own_thread(hook)

    with contextlib.ExitStack() as stack, torch.no_grad():
        stack.enter_context(undisturbed(base))
        if goes_through_float32(base, model.dtype):  # where rows that read nothing are NaN, and spread
            stack.enter_context(recorded_weights(base, {}))
        for module, values in outputs.items():
            stack.enter_context(removed(module.register_forward_hook(give(values))))
        whole = base.get_submodule(row.stack.layers.rpartition(".")[0])
        stack.enter_context(removed(whole.register_forward_hook(own_thread(catch))))
        run(stack, base, inputs)
    return widened(caught[-1])
