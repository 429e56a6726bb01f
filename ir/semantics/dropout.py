"""Dropout: zero some elements in training, keyed by the job's seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from homespun.errors import Code, HomespunError
from ir.semantics.backend import Backend
from ir.semantics.call import OpCall
from ir.semantics.draws import DrawKey, keep_mask
from ir.semantics.registry import Runner, semantics


def dropout_ratio(call: OpCall) -> float:
    """The share of elements that a node zeroes in this mode.

    Raises:
        HomespunError: INVALID_GRAPH if it is not a share.
    """
    ratio = call.host_number(1, 0.5)
    if not 0.0 <= ratio <= 1.0:
        raise HomespunError(
            Code.INVALID_GRAPH,
            f"Node '{call.node.name}' (Dropout) has ratio {ratio}; it must be in [0, 1].",
            node=call.node.name)
    return ratio if call.training and call.host_number(2, 0.0) else 0.0


def _draw(call: OpCall, key: DrawKey) -> tuple[npt.NDArray[np.generic], ...]:
    ratio = dropout_ratio(call)
    return (keep_mask(key, call.shape(0), ratio),) if ratio else ()


@semantics("Dropout", host=(1, 2), draw=_draw)
def _dropout(call: OpCall, backend: Backend) -> Runner:
    ratio, masked = dropout_ratio(call), call.wants(1)
    scale = 1.0 / (1.0 - ratio) if ratio < 1.0 else 0.0

    def run(x: Any, _: None = None, __: None = None, kept: Any = None) -> Any:
        if kept is None:
            mask = backend.constant(np.ones(call.shape(0), dtype=np.bool_)) if masked else None
            return (x, mask) if masked else x
        result = x * (backend.cast(kept, call.type(0).dtype) * scale)
        return (result, kept) if masked else result

    return run
