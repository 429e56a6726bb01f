"""What the planner knows about the peers: measured rates, memory, links. Frozen values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from dag.support import ExecutorSupport
from ir.graph import FLOATS
from ir.operators import OpClass

FLOPS_PER_S_MAX = 1e18
"""A thousand of today's fastest accelerators; more is a broken clock or a lie."""
BYTES_PER_S_MAX = 1e15
OVERHEAD_S = 10e-6
"""Starting one operator where it was not measured: of the order of a kernel launch."""
OVERHEAD_S_MAX = 0.1
CORRECTION_MIN, CORRECTION_MAX = 0.25, 4.0
"""How far real tasks may move a prediction. Beyond, something else is wrong than the speed."""
DTYPES_MAX = 8
CORRECTIONS_MAX = 32
FORWARD, BACKWARD = "forward", "backward"


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseRates:
    """Speeds of dense work in one dtype, floating-point operations per second, all > 0."""

    dtype: str
    matmul_flops_per_s: float
    attention_flops_per_s: float
    convolution_flops_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """How much longer one kind of work takes in real tasks than the measured rates say.

    Attributes:
        direction: `FORWARD` or `BACKWARD`.
        op_class: which nodes.
        factor: real over predicted seconds, `CORRECTION_MIN` to `CORRECTION_MAX`.
    """

    direction: str
    op_class: OpClass
    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRates:
    """Measured speeds of one peer's device through its executor.

    Attributes:
        matmul_flops_per_s: dense float32 matrix multiplication, > 0.
        attention_flops_per_s: fused attention in float32, > 0.
        memory_bytes_per_s: element-wise work: bytes read plus bytes written, > 0.
        convolution_flops_per_s: convolutions in float32; 0 where not measured, they then count as
            matrix products.
        narrow: dense work in dtypes narrower than float32, where the device has them; a dtype that
            is not listed runs at the speed of float32.
        forward_overhead_s: time to start one operator, >= 0.
        backward_overhead_s: the same of its gradient.
        is_asynchronous: whether the device works on one operator while the next one is started.
        corrections: what real tasks have taught, at most one for each direction and class.
    """

    matmul_flops_per_s: float
    attention_flops_per_s: float
    memory_bytes_per_s: float
    convolution_flops_per_s: float = 0.0
    narrow: tuple[DenseRates, ...] = ()
    forward_overhead_s: float = OVERHEAD_S
    backward_overhead_s: float = OVERHEAD_S
    is_asynchronous: bool = False
    corrections: tuple[Correction, ...] = ()

    def flops_per_s(self, op_class: OpClass, dtype: str) -> float:
        """Speed of a class of operators on operands of a dtype; infinite where bytes decide."""
        dense = next((rates for rates in self.narrow if rates.dtype == dtype), None) or DenseRates(
            dtype="float32", matmul_flops_per_s=self.matmul_flops_per_s,
            attention_flops_per_s=self.attention_flops_per_s,
            convolution_flops_per_s=self.convolution_flops_per_s or self.matmul_flops_per_s)
        return {
            OpClass.MATMUL: dense.matmul_flops_per_s,
            OpClass.ATTENTION: dense.attention_flops_per_s,
            OpClass.CONVOLUTION: dense.convolution_flops_per_s,
        }.get(op_class, inf)

    def correction(self, direction: str, op_class: OpClass) -> float:
        """Factor for one kind of work; 1 where nothing was learnt."""
        return next((found.factor for found in self.corrections
                     if (found.direction, found.op_class) == (direction, op_class)), 1.0)


def problem_with_rates(rates: PeerRates) -> str:
    """What no device can be like, as a sentence's end; "" if nothing.

    A peer measures itself, so this bounds what a broken or lying one can make a planner believe.
    """
    dense = {
        f"{of}{name}": value for of, part in _dense_parts(rates)
        for name, value in (
            ("matmul_flops_per_s", part.matmul_flops_per_s),
            ("attention_flops_per_s", part.attention_flops_per_s),
            ("convolution_flops_per_s", part.convolution_flops_per_s))}
    for name, rate in (*dense.items(), ("memory_bytes_per_s", rates.memory_bytes_per_s)):
        most = BYTES_PER_S_MAX if name == "memory_bytes_per_s" else FLOPS_PER_S_MAX
        if not 0 < rate <= most:
            return f"{name} is {rate}; expected a rate above 0, at most {most:g}"
    for name in ("forward_overhead_s", "backward_overhead_s"):
        if not 0 <= (overhead := getattr(rates, name)) <= OVERHEAD_S_MAX:
            return f"{name} is {overhead}; expected 0 to {OVERHEAD_S_MAX} s"
    dtypes = [part.dtype for part in rates.narrow]
    if len(dtypes) > DTYPES_MAX or len(set(dtypes)) != len(dtypes) or not set(dtypes) <= FLOATS:
        return f"narrow names {dtypes[:DTYPES_MAX]}; expected different floating-point dtypes"
    return problem_with_corrections(rates.corrections)


def problem_with_corrections(corrections: tuple[Correction, ...]) -> str:
    """As `problem_with_rates`, of corrections alone."""
    kinds = [(found.direction, found.op_class) for found in corrections]
    if len(set(kinds)) != len(kinds) or any(of not in (FORWARD, BACKWARD) for of, _ in kinds):
        return "corrections names a kind of work twice, or an unknown one"
    for found in corrections:
        if not CORRECTION_MIN <= found.factor <= CORRECTION_MAX:
            return (f"the correction of {found.op_class} {found.direction} is {found.factor}; "
                    f"expected {CORRECTION_MIN} to {CORRECTION_MAX}")
    return ""


def _dense_parts(rates: PeerRates) -> list[tuple[str, PeerRates | DenseRates]]:
    # Unmeasured convolutions are no mistake.
    whole = rates if rates.convolution_flops_per_s else replace(
        rates, convolution_flops_per_s=rates.matmul_flops_per_s)
    return [("", whole), *((f"{part.dtype[:20]} ", part) for part in rates.narrow)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerResources:
    """One peer as a place to run a segment.

    Attributes:
        peer_id: its id.
        memory_bytes: device memory that its owner offers, > 0.
        rates: measured speeds.
        executor: name of what computes there, for messages.
        support: what that can run; None sets no limit.
        numeric_class: peers of the same one compute the same bits; "" where nobody knows.
    """

    peer_id: str
    memory_bytes: int
    rates: PeerRates
    executor: str = ""
    support: ExecutorSupport | None = None
    numeric_class: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A measured ordered pair of peers: time of `n` bytes is `latency_s + n / bandwidth`.

    Attributes:
        source, target: ids of the peers.
        latency_s: one way, as half a round trip: clocks of two machines are never compared, so
            what one direction has more than the other is not seen. Sums over both directions,
            which a training step waits for, are exact all the same.
        bandwidth_bytes_per_s: of payload, as the sender saw it accepted.
    """

    source: str
    target: str
    latency_s: float
    bandwidth_bytes_per_s: float


DEFAULT_LATENCY_S = 0.001
DEFAULT_BANDWIDTH_BYTES_PER_S = 1.0e8
"""Assumed until a pair has been measured: a good home LAN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The peers that a job may use, in a fixed order, and the links between them."""

    peers: tuple[PeerResources, ...]
    links: tuple[Link, ...] = ()
