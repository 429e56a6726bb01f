"""RNN, GRU and LSTM as a loop over time (ONNX operator reference).

Legend: S time, B batch, I input features, H hidden units, G gates of the cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from homespun.errors import Code, HomespunError
from ir.semantics.activations import sigmoid, softplus
from ir.semantics.backend import Array, Backend
from ir.semantics.call import OpCall
from ir.semantics.registry import Runner, semantics

Activation = Callable[[Array], Array]
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_USUAL = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
_DEFAULTS = {"Affine": (1.0, 0.0), "LeakyRelu": (0.01, 0.0), "ThresholdedRelu": (1.0, 0.0),
             "ScaledTanh": (1.0, 1.0), "HardSigmoid": (0.2, 0.5), "Elu": (1.0, 0.0)}
"""Activations with parameters -> alpha and beta where the node gives none."""
_WITH_BETA = frozenset({"Affine", "ScaledTanh", "HardSigmoid"})


@dataclass(frozen=True, slots=True, eq=False)
class _Cell:
    """What all steps of one direction share."""

    backend: Backend
    activations: tuple[Activation, ...]
    clip: float
    reset_after: bool
    coupled: bool

    def limit(self, x: Array) -> Array:
        """What enters an activation, within the node's `clip`."""
        return self.backend.xp.clip(x, -self.clip, self.clip) if self.clip else x


def _activation(backend: Backend, name: str, alpha: float, beta: float) -> Activation:
    xp = backend.xp
    functions: dict[str, Activation] = {
        "tanh": xp.tanh, "relu": lambda x: xp.where(x > 0, x, 0 * x),
        "sigmoid": partial(sigmoid, xp), "softplus": partial(softplus, xp),
        "softsign": lambda x: x / (1 + xp.abs(x)),
        "affine": lambda x: alpha * x + beta, "leakyrelu": lambda x: xp.where(x > 0, x, alpha * x),
        "thresholdedrelu": lambda x: xp.where(x > alpha, x, 0 * x),
        "scaledtanh": lambda x: alpha * xp.tanh(beta * x),
        "hardsigmoid": lambda x: xp.clip(alpha * x + beta, 0.0, 1.0),
        "elu": lambda x: xp.where(x > 0, x, alpha * xp.expm1(xp.where(x > 0, 0 * x, x))),
    }
    return functions[name.lower()]


def _activations(call: OpCall, backend: Backend, ways: int) -> list[tuple[Activation, ...]]:
    """The activations of each direction; alphas and betas go to those that take one, in order."""
    usual = _USUAL[call.node.op_type]
    given = call.node.attributes.get("activations")
    names = [str(name) for name in given] if isinstance(given, tuple) else list(usual) * ways
    known = {name.lower(): name for name in (
        *_DEFAULTS, "Tanh", "Relu", "Sigmoid", "Softsign", "Softplus")}
    if len(names) < len(usual) * ways or any(name.lower() not in known for name in names):
        raise HomespunError(
            Code.UNSUPPORTED_OP,
            f"Node '{call.node.name}' ({call.node.op_type}) has activations {names}; each of its "
            f"{ways} directions takes {len(usual)} of {', '.join(sorted(known.values()))}.",
            node=call.node.name)
    alphas, betas = (iter(call.numbers(name)) for name in ("activation_alpha", "activation_beta"))
    made = []
    for name in (known[name.lower()] for name in names):
        alpha, beta = _DEFAULTS.get(name, (0.0, 0.0))
        alpha = next(alphas, alpha) if name in _DEFAULTS else alpha
        beta = next(betas, beta) if name in _WITH_BETA else beta
        made.append(_activation(backend, name, alpha, beta))
    count = len(usual)
    return [tuple(made[way * count:(way + 1) * count]) for way in range(ways)]


def _rnn(cell: _Cell, w: Array, r: Array, p: Any, state: Any, x: Array) -> tuple[Array, ...]:
    return (cell.activations[0](cell.limit(x + cell.backend.xp.matmul(state[0], r))),)


def _gru(cell: _Cell, w: Array, r: Array, bias: Any, state: Any, x: Array) -> tuple[Array, ...]:
    """Gates z (update), r (reset), h; the bias of the last one's recurrence stays apart."""
    xp, (h,), size = cell.backend.xp, state, state[0].shape[1]
    gate, candidate = cell.activations
    both = gate(cell.limit(x[:, :2 * size] + xp.matmul(h, r[:, :2 * size])))
    update, reset = both[:, :size], both[:, size:]
    own = r[:, 2 * size:]
    if cell.reset_after:
        past = reset * (xp.matmul(h, own) + bias)
    else:
        past = xp.matmul(reset * h, own) + bias
    new = candidate(cell.limit(x[:, 2 * size:] + past))
    return (update * h + (1 - update) * new,)


def _lstm(cell: _Cell, w: Array, r: Array, p: Any, state: Any, x: Array) -> tuple[Array, ...]:
    """Gates i, o, f, c; peepholes p are of i, o, f."""
    xp, (h, c), size = cell.backend.xp, state, state[0].shape[1]
    total = x + xp.matmul(h, r)
    i, o, f, g = (total[:, at * size:(at + 1) * size] for at in range(4))
    gate, candidate, shown = cell.activations
    peep = (0.0, 0.0, 0.0) if p is None else tuple(p[at * size:(at + 1) * size] for at in range(3))
    entry = gate(cell.limit(i + peep[0] * c))
    kept = 1 - entry if cell.coupled else gate(cell.limit(f + peep[2] * c))
    new = kept * c + entry * candidate(cell.limit(g))
    return gate(cell.limit(o + peep[1] * new)) * shown(new), new


_STEPS: dict[str, Callable[..., tuple[Array, ...]]] = {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}


@semantics("RNN", "GRU", "LSTM")
def _recurrent(call: OpCall, backend: Backend) -> Runner:
    xp, op_type, dtype = backend.xp, call.node.op_type, call.type(0).dtype
    ways, hidden = call.shape(1)[0], call.shape(2)[2]
    first = bool(call.integer("layout", 0))
    batch = call.shape(0)[0 if first else 1]
    backward = [call.text("direction", "forward") == "reverse", True][:ways]
    backward = backward if ways == 1 else [False, True]
    cells = [_Cell(backend, functions, call.number("clip", 0.0),
                   bool(call.integer("linear_before_reset", 0)),
                   bool(call.integer("input_forget", 0)))
             for functions in _activations(call, backend, ways)]
    count = 2 if op_type == "LSTM" else 1
    blank = np.zeros((ways, batch, hidden), dtype=call.host_dtype(0))

    def run(x: Array, w: Array, r: Array, b: Array | None = None, lengths: Array | None = None,
            *rest: Array | None) -> Any:
        given = [*rest, None, None, None][:3]
        starts = [backend.constant(blank) if value is None
                  else (xp.permute_dims(value, (1, 0, 2)) if first else value)
                  for value in given[:count]]
        peepholes = given[2] if op_type == "LSTM" else None
        data = xp.permute_dims(x, (1, 0, 2)) if first else x
        outputs, finals = [], []
        for way, cell in enumerate(cells):
            source = _turned(backend, data, lengths) if backward[way] else data
            every, last = _direction(
                call, cell, source, w[way], r[way], None if b is None else b[way],
                None if peepholes is None else peepholes[way], [s[way] for s in starts], lengths)
            outputs.append(_turned(backend, every, lengths) if backward[way] else every)
            finals.append(last)
        result = xp.stack(outputs, axis=2 if first else 1)
        states = [xp.stack(list(column), axis=0) for column in zip(*finals, strict=True)]
        if first:
            result = xp.permute_dims(result, (1, 0, 2, 3))
            states = [xp.permute_dims(state, (1, 0, 2)) for state in states]
        return tuple(backend.cast(value, dtype) for value in (result, *states))

    return run


def _direction(
    call: OpCall, cell: _Cell, x: Array, w: Array, r: Array, b: Array | None, p: Array | None,
    starts: Sequence[Array], lengths: Array | None,
) -> tuple[Array, tuple[Array, ...]]:
    """Run one direction over [S, B, I]: all hidden states [S, B, H], and the last states."""
    xp, backend, op_type, hidden = cell.backend.xp, cell.backend, call.node.op_type, r.shape[1]
    width = _GATES[op_type] * hidden
    entering = xp.matmul(x, xp.matrix_transpose(w))
    extra: Any = p
    if op_type == "GRU":
        extra = 0.0
    if b is not None:
        own, recurrent = b[:width], b[width:]
        if op_type == "GRU":
            extra = recurrent[2 * hidden:]
            zeros = xp.zeros_like(extra)
            recurrent = xp.concat([recurrent[:2 * hidden], zeros], axis=0)
        entering = entering + (own + recurrent)
    step = partial(_STEPS[op_type], cell, w, xp.matrix_transpose(r), extra)
    steps = x.shape[0]
    xs: tuple[Array, ...] = (entering,)
    if lengths is not None:
        times = backend.constant(np.arange(steps, dtype=np.int32).reshape(-1, 1, 1))
        xs = (entering, times < xp.reshape(lengths, (1, -1, 1)))

    def one(state: Any, slices: Any) -> tuple[Any, Any]:
        new = step(state, slices[0])
        if len(slices) == 1:
            return new, (new[0],)
        active = slices[1]
        kept = tuple(xp.where(active, n, o) for n, o in zip(new, state, strict=True))
        return kept, (xp.where(active, new[0], xp.zeros_like(new[0])),)

    last, (every,) = backend.loop(one, tuple(starts), xs, steps)
    return every, last


def _turned(backend: Backend, x: Array, lengths: Array | None) -> Array:
    """[S, B, ...] backwards in time, each sample within its own length."""
    xp, (steps, batch) = backend.xp, x.shape[:2]
    if lengths is None:
        return xp.flip(x, axis=0)
    times = backend.constant(np.arange(steps, dtype=np.int64).reshape(-1, 1))
    ends = xp.reshape(backend.cast(lengths, "int64"), (1, -1))
    source = xp.where(times < ends, ends - 1 - times, times)
    samples = backend.constant(np.arange(batch, dtype=np.int64).reshape(1, -1))
    return backend.take(x, (xp.clip(source, 0, steps - 1), samples))
