"""What stands around a model while it is decomposed: wrappers, autocast, other threads, settings of its configuration.

What would change an answer without a word is refused in one sentence that says what to do, or is held off for the time
of a pass and put back as it was.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from addends.errors import InputError, ModelStateError, UnsupportedModelError

# One for all models: two of them may share a configuration, whose settings are changed for the time of a pass.
_LOCK = threading.RLock()

# Where transformers' hooks that collect states come from, and how it marks a model that has them.
_CAPTURING, _TRACED = "transformers.utils.output_capturing", "_output_capturing_hooks_installed"


def check_model(model: object) -> None:
    """Raise unless ``model`` is a bare transformers model, in evaluation mode, outside of autocast.

    What is looked at: the class of the model, and, of every module, its class, its mode and whether it is compiled. A
    wrapper that looks like a bare model in all of these is not seen here; the exactness check may still see it.

    Raises
    ------
    InputError
        If it is no transformers model.
    UnsupportedModelError
        If it is wrapped (PEFT, DataParallel, torch.compile), holds an adapter, or is quantised.
    ModelStateError
        If autocast is on, the weights are not on one device, or a module is in training mode (the first is named).
    """
    name = type(model).__name__
    if hasattr(model, "merge_and_unload"):
        raise UnsupportedModelError(
            f"{name} is a model with adapters (PEFT) around it, which change its maps. Call model.merge_and_unload() "
            "and give the model that it returns."
        )
    if hasattr(model, "_orig_mod"):
        raise UnsupportedModelError(
            f"{name} is a model compiled by torch.compile, which passes hooks by. Give the model before it was "
            "compiled: model._orig_mod."
        )
    if not isinstance(model, PreTrainedModel):
        if isinstance(getattr(model, "module", None), PreTrainedModel):
            raise UnsupportedModelError(f"{name} is a wrapper around a model. Give the model inside: model.module.")
        raise InputError(f"model is a {name}; a transformers model (PreTrainedModel) is wanted, such as load returns.")
    if getattr(model, "is_quantized", False) or getattr(model, "hf_quantizer", None) is not None:
        raise UnsupportedModelError(
            f"The {name} is quantised: its maps are not the weights that it holds. Load it without quantisation "
            "(addends.load, or from_pretrained without quantization_config)."
        )
    check_autocast(model.device)
    devices = sorted({str(weight.device) for weight in model.base_model.parameters()})
    if devices == ["meta"] or len(devices) > 1:
        raise ModelStateError(
            f"The model's weights are on {' and '.join(devices)}: they are spread over devices or offloaded. Load it "
            "on one device (addends.load(..., device=...), or from_pretrained without device_map)."
        )
    for path, module in model.base_model.named_modules():
        where = f"The module {path!r}" if path else "The model"
        if "quantized" in type(module).__module__:
            raise UnsupportedModelError(
                f"{where} is a quantised {type(module).__name__}: its map is not the weights that it holds. Load the "
                "model without quantisation."
            )
        if module.training:
            raise ModelStateError(
                f"{where} is in training mode: dropout would change the states. Call model.eval() first."
            )
        if "_orig_mod" in module._modules or module._compiled_call_impl is not None:
            raise UnsupportedModelError(
                f"{where} is compiled by torch.compile, which passes hooks by. Give the model before it was compiled."
            )
        if "base_layer" in module._modules:
            raise UnsupportedModelError(
                f"{where} is a {type(module).__module__.partition('.')[0]} adapter ({type(module).__name__}) around a "
                "layer, which changes its map. Merge the adapter into the weights first (of a PEFT model: "
                "model.merge_and_unload(), and give the model that it returns)."
            )


def check_autocast(device: torch.device) -> None:
    """Raise ModelStateError if autocast is on for this kind of device."""
    if torch.is_autocast_enabled(device.type):
        raise ModelStateError(
            f"torch.autocast is on: products would be rounded to {torch.get_autocast_dtype(device.type)}. Call this "
            "outside of the autocast block; for states in half precision load the model with that dtype."
        )


@contextlib.contextmanager
def undisturbed(base: nn.Module) -> Iterator[None]:
    """One thread at a time works, the modules of ``base`` return what transformers names (``return_dict``), no traces.

    Traces are the hooks that transformers leaves on a model whose states are asked for, by its configuration or by us.
    The lock is of this package: a pass that another thread makes by calling the model itself is not held up. Hooks
    ignore it (`own_thread`), and attention computed for it is that of transformers.
    """
    with _LOCK:
        before = [(config, config.return_dict) for config in configs_of(base) if hasattr(config, "return_dict")]
        traces = [(module, _traces(module), _TRACED in vars(module)) for module in base.modules()]
        try:
            for config, _ in before:
                config.return_dict = True
            yield
        finally:
            for config, value in before:
                config.return_dict = value
            for module, hooks, traced in traces:
                for number in _traces(module) - hooks:
                    del module._forward_hooks[number]
                if not traced and _TRACED in vars(module):
                    delattr(module, _TRACED)


def _traces(module: nn.Module) -> set[int]:
    """The hooks of a module that are transformers' own."""
    hooks = module._forward_hooks
    return (
        {number for number, hook in hooks.items() if getattr(hook, "__module__", None) == _CAPTURING}
        if hooks
        else set()
    )


def configs_of(base: nn.Module) -> list[Any]:
    """The configurations of a model and of the modules in it, each once."""
    return list({id(module.config): module.config for module in base.modules() if hasattr(module, "config")}.values())


def own_thread(hook: Callable) -> Callable:
    """The hook, for calls of the thread that registers it; calls of other threads pass by."""
    owner = threading.get_ident()
    return lambda *given: hook(*given) if threading.get_ident() == owner else None
