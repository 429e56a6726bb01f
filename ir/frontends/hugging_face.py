"""What `transformers` models need so that they can be traced, undone afterwards.

Nothing here imports the library: its models are known by their `config`, so that any version of it,
or none, may be installed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch

_TRACEABLE: Mapping[str, tuple[tuple[str, ...], str]] = {
    "_attn_implementation": (("eager", "sdpa"), "sdpa"),
    "_experts_implementation": (("grouped_mm", "batched_mm"), "grouped_mm"),
}
"""Attribute of a config -> the values that can be traced, and the one to use instead of others.

They name implementations of one function: the numbers differ by rounding only. Experts that loop
over those that were chosen decide by data what to run, and hardware kernels are no tensor code.
"""


@contextlib.contextmanager
def traceable(model: torch.nn.Module) -> Iterator[tuple[str, ...]]:
    """Keep no cache, checkpoint nothing, and use implementations that can be traced.

    Args:
        model: any module; those that are not of `transformers` have nothing to change. Afterwards
            everything is as it was.

    Yields:
        For people: which implementations were replaced for the trace.
    """
    configs = {id(config): config for config in _configs(model)}.values()
    notes: dict[str, None] = {}
    with contextlib.ExitStack() as undo:
        for config in configs:
            if getattr(config, "use_cache", None) is True:
                _set(undo, config, "use_cache", False)
            for attribute, (accepted, other) in _TRACEABLE.items():
                value = getattr(config, attribute, None)
                if value is not None and value not in accepted:
                    # As a dict, so that the library does not hand it on to inner configs.
                    undo.callback(setattr, config, attribute, {"": value})
                    setattr(config, attribute, {"": other})
                    if attribute != "_experts_implementation" or _has_experts(model, config):
                        notes[f"Traced with {attribute.strip('_')}={other!r} instead of "
                              f"{value!r}."] = None
        if configs:
            _set(undo, torch, "isfinite", _finite)
        for module in model.modules():
            if getattr(module, "gradient_checkpointing", None) is True:
                _set(undo, module, "gradient_checkpointing", False)
        yield tuple(notes)


_is_finite = torch.isfinite


def _finite(x: torch.Tensor) -> torch.Tensor:
    """`torch.isfinite` that tells a branch that all is.

    The library asks in training whether activations are finite and limits them if not, which is for
    float16. A graph cannot branch; infinite activations stay what they are.
    """
    found = _is_finite(x)
    found.all = lambda: True
    return found


def _configs(model: torch.nn.Module) -> Iterator[Any]:
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "model_type"):
            yield config


def _has_experts(model: torch.nn.Module, config: object) -> bool:
    return any(getattr(module, "config", None) is config and hasattr(module, "num_experts")
               for module in model.modules())


def _set(undo: contextlib.ExitStack, owner: object, name: str, value: object) -> None:
    undo.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)
