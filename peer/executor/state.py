"""Names and types of a segment's state, and what is refused: the same for every executor.

`parameter/<name>` is a parameter's value, running statistics included. `optimizer/<name>/<key>` is
what the update rule remembers of a parameter, by the executor's own key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from homespun.errors import Code, HomespunError
from ir.graph import TensorType
from peer.executor.base import Array

Memory = Mapping[str, Mapping[str, TensorType]]
"""parameter -> key -> type: what the update rule remembers."""


def parameter_key(name: str) -> str:
    """Name of a parameter's value in a state."""
    return f"parameter/{name}"


def optimizer_key(name: str, key: str) -> str:
    """Name of what the update rule remembers of a parameter, in a state."""
    return f"optimizer/{name}/{key}"


def parameter_of(name: str) -> str:
    """The parameter that a name in a state is about; "" for none.

    Keys of update rules have no slash, names of parameters may.
    """
    kind, _, rest = name.partition("/")
    if kind == "optimizer":
        return rest.rpartition("/")[0]
    return rest if kind == "parameter" else ""


def check_state(
    state: Mapping[str, Array], parameters: Mapping[str, TensorType], memory: Memory,
    unused: Iterable[str] = (),
) -> None:
    """Refuse a state that is not of this segment.

    Args:
        state: by name.
        parameters: the segment's own, all of which the state must have.
        memory: what the update rule remembers of the trainable ones; all of it must be there.
        unused: parameters of which nothing is remembered before they get a gradient: all or nothing
            of their memory is there.

    Raises:
        HomespunError: INVALID_ARGUMENT with the name of what is missing, too much, or of another
            type.
    """
    wanted = {parameter_key(name): type_ for name, type_ in parameters.items()}
    for name, keys in memory.items():
        own = {optimizer_key(name, key): type_ for key, type_ in keys.items()}
        if name not in unused or not own.keys().isdisjoint(state):
            wanted |= own
    check_types(state, wanted)


def check_types(state: Mapping[str, Array], wanted: Mapping[str, TensorType]) -> None:
    """Refuse a state whose tensors are not exactly those wanted.

    Raises:
        HomespunError: INVALID_ARGUMENT with the name of what is missing, too much, or of another
            type.
    """
    types = {name: TensorType(array.dtype.name, array.shape) for name, array in state.items()}
    for name in sorted(wanted.keys() | types.keys()):
        if types.get(name) != wanted.get(name):
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"The state has {_said(types.get(name))} as '{name}'; this segment has "
                f"{_said(wanted.get(name))}. It is of another segment, job or executor.",
                tensor=name)


def _said(type_: TensorType | None) -> str:
    return "nothing" if type_ is None else f"{type_.dtype}{list(type_.shape)}"
