"""`homespun.train`, and callbacks, on real peers."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import TensorDataset

import homespun
from homespun.callbacks import Callback

pytestmark = pytest.mark.e2e

ROWS, WIDTH = 64, 6


class Broken(Callback):
    """Fails at whatever it is told."""

    def on_begin(self, beginning):
        raise OSError("no space left on device")

    on_step = on_evaluation = on_recovery = on_end = on_begin


class Recorder(Callback):
    def __init__(self):
        self.settings, self.steps, self.evaluations, self.recoveries, self.ends = {}, [], [], [], []

    def on_begin(self, beginning):
        self.settings = beginning.settings

    def on_step(self, metric):
        self.steps.append((metric.step, metric.loss))

    def on_evaluation(self, metric):
        self.evaluations.append((metric.step, metric.loss))

    def on_recovery(self, recovery):
        self.recoveries.append(recovery)

    def on_end(self, status):
        self.ends.append(status.state)


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, 12), nn.Tanh(), nn.Linear(12, 3))


def rows():
    draws = np.random.default_rng(0)
    x = draws.standard_normal((ROWS, WIDTH)).astype(np.float32)
    return x, np.abs(x[:, :3]).argmax(1)


def test_it_is_client_train_and_no_callback_can_harm_it(client, lab, tmp_path, caplog):
    x, y = rows()
    data = TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    mine, seen = model(), Recorder()
    output = homespun.train(
        mine, data,
        homespun.TrainingArguments(
            learning_rate=0.02, weight_decay=0.01, per_device_train_batch_size=4,
            gradient_accumulation_steps=2, num_train_epochs=2, warmup_steps=2, eval_steps=10,
            seed=3, run_name="call", output_dir=tmp_path / "out"),
        eval_dataset=data, loss=nn.CrossEntropyLoss(), callbacks=[Broken(), seen], client=client)
    job = client.train(
        model(), loss=nn.CrossEntropyLoss(), data={"input": x, "label": y},
        validation={"input": x, "label": y},
        optimizer=homespun.AdamW(lr=0.02, weight_decay=0.01),
        schedule=homespun.Linear(warmup_steps=2), steps=16, batch_size=8, microbatches=2,
        clip_norm=1.0, seed=3, evaluate_every=10)
    lab.finished(job)
    expected = job.result(tmp_path / "expected.safetensors").state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in mine.state_dict().items())
    kept = load_file(output.weights)
    assert all(torch.equal(kept[name], tensor) for name, tensor in expected.items())
    steps, evaluations = lab.curves(job)
    assert (seen.steps, seen.evaluations, seen.ends) == (steps, evaluations, ["succeeded"])
    assert (output.global_step, output.eval_loss) == (16, evaluations[-1][1])
    assert output.training_loss == pytest.approx(np.mean([loss for _, loss in steps]))
    assert seen.settings["learning_rate"] == 0.02
    assert caplog.text.count("The callback Broken failed") == 1


def test_a_model_of_transformers_with_its_own_loss(client, capsys):
    transformers = pytest.importorskip("transformers")
    draws = np.random.default_rng(1)
    tokens = draws.integers(0, 32, (48, 8))
    data = {"input_ids": tokens, "label": (tokens[:, 0] > 15).astype(np.int64),
            "idx": np.arange(48)}
    if datasets := _datasets():
        data = datasets.Dataset.from_dict({name: column.tolist() for name, column in data.items()})
    torch.manual_seed(0)
    bert = transformers.BertForSequenceClassification(transformers.BertConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=8, num_labels=2))
    bert.bert.requires_grad_(False)
    frozen = {name: tensor.clone() for name, tensor in bert.bert.state_dict().items()}
    head = bert.classifier.weight.clone()
    output = homespun.train(
        bert, data, homespun.TrainingArguments(
            learning_rate=0.01, max_steps=6, logging_steps=3), client=client)
    assert "left out idx" in capsys.readouterr().err
    assert output.global_step == 6
    assert output.weights is None
    assert output.eval_loss is None
    assert not torch.equal(bert.classifier.weight, head)
    assert all(torch.equal(bert.bert.state_dict()[name], tensor)
               for name, tensor in frozen.items())


def _datasets():
    try:
        import datasets
    except ImportError:
        return None
    return datasets


def test_a_job_that_fails_raises_and_leaves_the_model(client):
    x, y = rows()
    mine = model()
    before = {name: tensor.clone() for name, tensor in mine.state_dict().items()}
    seen = Recorder()
    with pytest.raises(homespun.HomespunError) as caught:
        homespun.train(
            mine, {"x": x, "y": np.full_like(y, 7)},  # a class that there is not
            homespun.TrainingArguments(max_steps=5, peers=1), loss=nn.CrossEntropyLoss(),
            callbacks=seen, client=client)
    assert caught.value.exit_code == 1
    assert seen.ends == ["failed"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in mine.state_dict().items())


def test_a_callback_hears_of_a_recovery(network, client, lab):
    job = client.train(**lab.arguments(steps=400, evaluate_every=0, peers=2))
    seen, killed = Recorder(), []

    def kill(update):
        if update.status.steps_done >= 20 and not killed:
            killed.append(update.status.segments[0].peer_name)
            network.kill(killed[0])

    status = job.watch(kill, callbacks=[seen], timeout_s=240)
    assert status.state == "succeeded"
    assert killed
    assert len(seen.recoveries) >= 1
    assert seen.recoveries[0].step >= 20
    assert "segment 0" in seen.recoveries[0].reason
    assert [step for step, _ in seen.steps] == list(range(400))
    assert seen.ends == ["succeeded"]
