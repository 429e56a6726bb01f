"""Buffers that a PyTorch module changes in forward become updates of the graph."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from homespun.errors import Code, HomespunError
from ir.check import problems
from ir.frontends.torch_module import import_inference, import_module

BATCH = {"x": torch.randn(4, 3, 6, 6), "y": torch.randn(4, 3)}


class Net(nn.Module):
    """Convolution, a layer, mean over pixels."""

    def __init__(self, layer, calls=1):
        super().__init__()
        self.conv, self.layer, self.calls = nn.Conv2d(3, 3, 3, padding=1), layer, calls

    def forward(self, x):
        for _ in range(self.calls):
            x = self.layer(self.conv(x))
        return x.mean((2, 3))


def imported(layer, calls=1):
    return import_module(Net(layer, calls), nn.MSELoss(), BATCH)


def operators(graph):
    return [node.op_type for node in graph.nodes]


def test_batch_norm_updates_its_statistics_and_its_counter():
    graph = imported(nn.BatchNorm2d(3)).graph
    assert problems(graph) == ()
    assert set(graph.updates) == {
        "layer.running_mean", "layer.running_var", "layer.num_batches_tracked"}
    assert operators(graph).count("BatchNormalization") == 1
    assert graph.outputs == ("loss",)
    assert not {*graph.updates.values()} & {*graph.outputs}


def test_buffers_are_not_trainable():
    trainable = {p.name for p in imported(nn.BatchNorm2d(3)).parameters if p.trainable}
    assert trainable == {"conv.weight", "conv.bias", "layer.weight", "layer.bias"}


def test_without_running_statistics_nothing_is_updated():
    graph = imported(nn.BatchNorm2d(3, track_running_stats=False)).graph
    assert graph.updates == {}
    assert "BatchNormalization" not in operators(graph)


def test_every_call_of_a_shared_batch_norm_reads_the_stored_statistics():
    graph = imported(nn.BatchNorm2d(3), calls=2).graph
    norms = [node for node in graph.nodes if node.op_type == "BatchNormalization"]
    assert len(norms) == 2
    assert all(node.inputs[3:] == ("layer.running_mean", "layer.running_var") for node in norms)


def test_the_module_is_left_as_it_was():
    layer = nn.BatchNorm2d(3, momentum=None)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    imported(layer)
    assert "forward" not in vars(layer)
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


def test_equal_modules_give_equal_bytes():
    torch.manual_seed(0)
    first = imported(nn.BatchNorm2d(3)).graph_bytes
    torch.manual_seed(0)
    assert imported(nn.BatchNorm2d(3)).graph_bytes == first


class Changing(nn.Module):
    """Changes what `change` says."""

    def __init__(self, change, persistent=True):
        super().__init__()
        self.linear, self.change = nn.Linear(3, 3), change
        self.scale = nn.Parameter(torch.ones(3), requires_grad=False)
        self.register_buffer("mean", torch.zeros(3), persistent=persistent)

    def forward(self, x):
        self.change(self, x)
        return self.linear(x.mean((2, 3))) * self.scale


def average(self, x):
    self.mean.mul_(0.9).add_(x.mean((0, 2, 3)), alpha=0.1)


def test_any_buffer_may_be_changed():
    graph = import_module(Changing(average), nn.MSELoss(), BATCH).graph
    assert set(graph.updates) == {"mean"}
    assert problems(graph) == ()


def test_a_changed_buffer_outside_the_state_is_refused():
    with pytest.raises(HomespunError, match="'mean' in forward, which is not in") as found:
        import_module(Changing(average, persistent=False), nn.MSELoss(), BATCH)
    assert found.value.code is Code.UNSUPPORTED_OP


def test_a_changed_parameter_is_refused():
    def change(self, x):
        self.scale.mul_(0.9)

    with pytest.raises(HomespunError, match="changes the parameter 'scale' in forward"):
        import_module(Changing(change), nn.MSELoss(), BATCH)


def test_a_changed_column_is_refused():
    def loss(model, batch):
        batch["x"].mul_(2.0)
        return F.mse_loss(model(batch["x"]), batch["y"])

    with pytest.raises(HomespunError, match="changes a column in forward"):
        import_module(Net(nn.Identity()), loss, BATCH)


def test_inference_refuses_what_would_have_to_be_kept():
    with pytest.raises(HomespunError, match="changes its buffer 'mean' in evaluation mode"):
        import_inference(Changing(average), {"x": BATCH["x"]})


def test_inference_of_a_batch_norm_reads_the_stored_statistics():
    graph = import_inference(Net(nn.BatchNorm2d(3)), {"x": BATCH["x"]}).graph
    (norm,) = [node for node in graph.nodes if node.op_type == "BatchNormalization"]
    assert norm.inputs[3:] == ("layer.running_mean", "layer.running_var")
    assert not norm.attributes.get("training_mode", 0)
    assert graph.updates == {}


def test_an_instance_norm_with_statistics_of_its_own_is_not_called_twice():
    with pytest.raises(HomespunError, match="called twice"):
        imported(nn.InstanceNorm2d(3, track_running_stats=True), calls=2)
