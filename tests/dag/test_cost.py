from dataclasses import replace
from itertools import pairwise

import pytest

from dag.cluster import (
    BACKWARD,
    FORWARD,
    OVERHEAD_S,
    Correction,
    DenseRates,
    Link,
    PeerRates,
)
from dag.cost import (
    Links,
    deferred_seconds,
    graph_costs,
    link_seconds,
    node_seconds,
    optimizer_bytes,
    segment_memory,
    segment_seconds,
    update_seconds,
)
from dag.job import OptimizerSpec
from dag.predict import estimate
from ir.cut import cut
from ir.graph import Graph, Node, TensorType
from ir.operators import OpClass

MIB = 1 << 20


def segments_of(known, *ends):
    bounds = (0, *ends, len(known.costs.graph.nodes))
    parts = [range(a, b) for a, b in pairwise(bounds)]
    return cut(known.costs.graph, parts, known.costs.trainable)


@pytest.fixture
def known(world):
    # Two layers of 512 x 512 weights: 1 MiB each; 128 rows: 256 KiB per activation.
    graph = world.chain([512, 512, 512], rows=128)
    return estimate(world.problem(graph, world.cluster(world.peer(0))))


def test_a_product_takes_its_operations_over_the_rate(known):
    seconds = known.seconds["peer_0"]
    assert seconds[0, 0] == pytest.approx(2 * 128 * 512 * 512 / 1e9 + OVERHEAD_S)
    # Backward of the first product: only the weight wants a gradient; of the second: both.
    assert seconds[1, 0] == pytest.approx(seconds[0, 0])
    assert seconds[1, 2] == pytest.approx(2 * 2 * 128 * 512 * 512 / 1e9 + OVERHEAD_S)


def test_elementwise_work_takes_its_bytes_over_the_bandwidth(known):
    assert known.seconds["peer_0"][0, 1] == pytest.approx(
        2 * 128 * 512 * 4 / 1e9 + OVERHEAD_S)


def test_half_of_a_products_backward_may_wait(known):
    # Cut after the first product: the second segment has the other one, and both gradients of it.
    seconds = known.seconds["peer_0"]
    _, last = segments_of(known, 1)
    product_s = seconds[1, 2]
    assert deferred_seconds(known.costs, last, seconds, False) == pytest.approx(product_s / 2)
    again = seconds + [[0.0], [1.0]] * seconds[0]  # with `recompute`, the forward comes on top
    assert deferred_seconds(known.costs, last, again, True) == pytest.approx(
        (product_s + seconds[0, 2]) / 3)


def test_recomputation_runs_forward_again(known, world):
    rates = world.peer(0).rates
    plain = node_seconds(known.costs, rates, False)
    again = node_seconds(known.costs, rates, True)
    assert again[1] == pytest.approx(plain[1] + plain[0])


NARROW = DenseRates(
    dtype="bfloat16", matmul_flops_per_s=8e9, attention_flops_per_s=4e9,
    convolution_flops_per_s=2e9)


def test_rounded_products_run_at_the_narrow_rate_and_pay_for_rounding(known, world):
    rates = replace(world.peer(0).rates, narrow=(NARROW,))
    seconds = node_seconds(known.costs, rates, False, "bfloat16")
    flops, moved = 2 * 128 * 512 * 512, 4 * (2 * 128 * 512 + 512 * 512)
    assert seconds[0, 0] == pytest.approx(flops / 8e9 + 1.5 * moved / 1e9 + OVERHEAD_S)
    # Element-wise work keeps the graph's dtype.
    assert seconds[0, 1] == node_seconds(known.costs, rates, False)[0, 1]


def test_a_peer_without_narrow_rates_is_priced_as_float32(known, world):
    flops, moved = 2 * 128 * 512 * 512, 4 * (2 * 128 * 512 + 512 * 512)
    seconds = node_seconds(known.costs, world.peer(0).rates, False, "bfloat16")
    assert seconds[0, 0] == pytest.approx(flops / 1e9 + 1.5 * moved / 1e9 + OVERHEAD_S)


def test_starting_has_a_rate_for_each_direction(known, world):
    free = replace(world.peer(0).rates, forward_overhead_s=0.0, backward_overhead_s=0.0)
    slow = replace(free, forward_overhead_s=3e-5, backward_overhead_s=7e-5)
    added = node_seconds(known.costs, slow, False) - node_seconds(known.costs, free, False)
    assert added[0] == pytest.approx(3e-5)
    assert added[1] == pytest.approx(7e-5)


def test_starting_hides_behind_the_work_of_an_asynchronous_device(known, world):
    rates = replace(world.peer(0).rates, forward_overhead_s=1e-3, is_asynchronous=True)
    seconds = node_seconds(known.costs, rates, False)
    assert seconds[0, 0] == pytest.approx(2 * 128 * 512 * 512 / 1e9)  # longer than starting it
    assert seconds[0, 1] == 1e-3  # shorter


@pytest.mark.parametrize(("is_asynchronous", "start_s"), [(False, OVERHEAD_S), (True, 0.0)])
def test_a_view_costs_its_start_where_nothing_hides_it(is_asynchronous, start_s):
    shapes = {"x": (4, 6), "w": (4, 6), "y": (4, 6), "z": (6, 4), "loss": ()}
    nodes = (Node(0, "y", "Mul", ("x", "w"), ("y",)), Node(1, "z", "Transpose", ("y",), ("z",)),
             Node(2, "v", "Transpose", ("x",), ("v",)),
             Node(3, "loss", "ReduceMean", ("z",), ("loss",), {"keepdims": 0}))
    graph = Graph(
        opset=23, nodes=nodes, inputs=("x",), parameters=("w",), outputs=("loss",), constants={},
        types={name: TensorType("float32", shape) for name, shape in {
            **shapes, "v": (6, 4)}.items()})
    rates = PeerRates(
        matmul_flops_per_s=1e9, attention_flops_per_s=1e9, memory_bytes_per_s=1e9,
        is_asynchronous=is_asynchronous)
    seconds = node_seconds(graph_costs(graph, frozenset({"w"})), rates, False)
    assert seconds[:, 1].tolist() == [start_s, start_s]
    assert seconds[:, 2].tolist() == [start_s, 0.0]  # no gradient flows through it


def test_what_real_tasks_taught_is_applied_by_direction_and_class(known, world):
    rates = world.peer(0).rates
    learnt = replace(rates, corrections=(
        Correction(direction=FORWARD, op_class=OpClass.MATMUL, factor=2.0),
        Correction(direction=BACKWARD, op_class=OpClass.MEMORY, factor=0.5)))
    ratio = node_seconds(known.costs, learnt, False) / node_seconds(known.costs, rates, False)
    assert ratio[0, :2] == pytest.approx([2.0, 1.0])
    assert ratio[1, :2] == pytest.approx([1.0, 0.5])


@pytest.mark.parametrize(("dtype", "rate"), [
    ("float32", 5e9), ("bfloat16", 2e9), ("float16", 5e9)])
def test_convolutions_have_rates_of_their_own(dtype, rate):
    rates = PeerRates(
        matmul_flops_per_s=1e9, attention_flops_per_s=1e9, memory_bytes_per_s=1e15,
        convolution_flops_per_s=5e9, narrow=(NARROW,), forward_overhead_s=0.0)
    shapes = {"x": (2, 3, 8, 8), "w": (4, 3, 3, 3), "y": (2, 4, 6, 6)}
    graph = Graph(
        opset=23, nodes=(Node(0, "conv", "Conv", ("x", "w"), ("y",)),), inputs=("x",),
        parameters=("w",), outputs=("y",), constants={},
        types={name: TensorType(dtype, shape) for name, shape in shapes.items()})
    seconds = node_seconds(graph_costs(graph, frozenset()), rates, False)
    assert seconds[0, 0] == pytest.approx(2 * (2 * 4 * 36) * 27 / rate)


def test_a_peer_that_never_measured_convolutions_prices_them_as_products(world):
    rates = world.peer(0).rates
    assert rates.flops_per_s(OpClass.CONVOLUTION, "float32") == rates.matmul_flops_per_s


def test_segment_times_add_up(known):
    whole = segment_seconds(segments_of(known)[0], known.seconds["peer_0"])
    parts = [segment_seconds(s, known.seconds["peer_0"]) for s in segments_of(known, 2)]
    assert [sum(side) for side in zip(*parts, strict=True)] == pytest.approx(whole)


@pytest.mark.parametrize(("kind", "momentum", "copies"), [
    ("sgd", 0.0, 0), ("sgd", 0.9, 1), ("adam", 0.0, 2), ("adamw", 0.0, 2)])
def test_optimizer_state(kind, momentum, copies):
    spec = OptimizerSpec(kind=kind, learning_rate=0.1, momentum=momentum)
    assert optimizer_bytes(100, spec) == 100 * copies


def test_memory_of_a_segment(known):
    first, second = segments_of(known, 2)
    memory = segment_memory(known.costs, first, known.training)
    assert (memory.weights, memory.gradients, memory.optimizer) == (MIB, MIB, 2 * MIB)
    # The data column, and what Relu keeps: its output.
    assert memory.per_microbatch == 2 * MIB // 4
    assert memory.total(3) - memory.total(1) == 2 * memory.per_microbatch
    assert memory.buffers == 2 * MIB // 4
    arriving = segment_memory(known.costs, second, known.training)
    assert arriving.buffers == MIB // 4


def test_frozen_parameters_take_no_gradient_or_state(world):
    graph = world.chain([512, 512], rows=8)
    known = estimate(world.problem(graph, world.cluster(world.peer(0)), frozen=("w0",)))
    memory = segment_memory(known.costs, segments_of(known)[0], known.training)
    assert (memory.weights, memory.gradients, memory.optimizer) == (MIB, 0, 0)


def test_a_tied_parameter_keeps_one_sum_per_reader_and_a_copy_per_segment(world):
    graph = world.chain([512, 512, 512], rows=8, tied=True)
    known = estimate(world.problem(graph, world.cluster(world.peer(0))))
    whole = segment_memory(known.costs, segments_of(known)[0], known.training)
    assert (whole.weights, whole.gradients, whole.optimizer) == (MIB, 2 * MIB, 2 * MIB)
    home, user = (
        segment_memory(known.costs, s, known.training) for s in segments_of(known, 2))
    assert (home.weights, home.gradients, home.optimizer) == (MIB, MIB, 2 * MIB)
    assert (user.weights, user.gradients, user.optimizer) == (MIB, MIB, 0)


def test_recomputation_keeps_only_what_arrived(known):
    training = replace(known.training, recompute=True)
    first, second = segments_of(known, 2)
    assert segment_memory(known.costs, first, training).per_microbatch == MIB // 4
    assert segment_memory(known.costs, second, training).per_microbatch == MIB // 4


def test_autocast_keeps_half_size_copies(known):
    training = replace(known.training, precision="bfloat16")
    (whole,) = segments_of(known)
    assert segment_memory(known.costs, whole, training).weights == 3 * MIB


def test_update_time_is_memory_traffic(known, world):
    memory = segment_memory(known.costs, segments_of(known)[0], known.training)
    assert update_seconds(memory, world.peer(0).rates) == pytest.approx(2 * 8 * MIB / 1e9)


def test_links(world):
    a, b = world.peer("a"), world.peer("b")
    links = Links(replace(world.cluster(a, b), links=(
        Link(source="peer_a", target="peer_b", latency_s=0.5, bandwidth_bytes_per_s=100.0),)))
    assert link_seconds(links.between("peer_a", "peer_b"), 50) == pytest.approx(1.0)
    assert link_seconds(links.between("peer_b", "peer_a"), 10**8) == pytest.approx(1.001)
