"""What every front end gives: a graph without weights, and the weights beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ir.graph import Graph


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ImportedParameter:
    """One tensor of the model's state.

    Attributes:
        name: its first `state_dict` name; the graph input has the same name, if the graph uses it.
        aliases: its other `state_dict` names, in order (tied weights are one tensor).
        value: C-contiguous; bfloat16 as `ml_dtypes.bfloat16`. It shares memory with the model
            where the model lies on the CPU: store it before the model is changed.
        trainable: False for buffers and for parameters without `requires_grad`.
    """

    name: str
    aliases: tuple[str, ...]
    value: npt.NDArray[np.generic]
    trainable: bool


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Imported:
    """A model as data.

    Attributes:
        graph_bytes: ONNX, flat and static, no weights, no external data. Equal models give equal
            bytes.
        graph: the same, loaded: `ir.serde.load(graph_bytes)`.
        parameters: the whole state in `state_dict` order, also tensors that the graph does not
            use (they stay as they are and are part of the result).
        notes: for people: what the front end did differently from the model's own settings.
    """

    graph_bytes: bytes
    graph: Graph
    parameters: tuple[ImportedParameter, ...]
    notes: tuple[str, ...] = ()
