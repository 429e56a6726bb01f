"""Keras models through their own exporter: the file's predictions, and further training of it."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from ir.check import check
from ir.frontends.onnx_file import read_onnx
from tests.pipeline import loss_and_gradients

EXPORT = """
import sys
import keras, numpy as np
folder = sys.argv[1]
layers = keras.layers
models = {
    "mlp": [layers.Input((6,)), layers.Dense(8, activation="gelu"), layers.Dropout(0.3),
            layers.Dense(3)],
    "cnn": [layers.Input((6, 6, 1)), layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(3)],
}
random = np.random.default_rng(0)
for name, parts in models.items():
    model = keras.Sequential(parts)
    # Numbers of ours, no two equal: the exporter merges equal ones.
    model.set_weights([random.uniform(0.1, 0.9, w.shape) for w in model.get_weights()])
    x = random.normal(size=(4, *model.input_shape[1:])).astype("float32")
    np.savez(f"{folder}/{name}.npz", x=x, y=np.asarray(model.predict(x, verbose=0)))
    model.export(f"{folder}/{name}.onnx", format="onnx", verbose=False)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Both models, exported in a process of their own: Keras chooses its backend once."""
    folder = tmp_path_factory.mktemp("keras")
    done = subprocess.run(
        [sys.executable, "-c", EXPORT, str(folder)], capture_output=True, text=True, timeout=240,
        env={**os.environ, "KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_a_keras_model_predicts_and_is_trained_further(folder, name):
    saved = np.load(folder / f"{name}.npz")
    plain = read_onnx(folder / f"{name}.onnx")
    (column,) = plain.inputs
    assert isinstance(plain.inputs[column][0], str)
    imported = plain.bind_shapes({column: saved["x"].shape})
    feeds = {p.name: p.value for p in imported.parameters} | {column: saved["x"]}
    (found,) = ReferenceEvaluator(imported.graph_bytes).run(None, feeds)
    np.testing.assert_allclose(found, saved["y"], rtol=1e-4, atol=1e-5)

    labels = np.array([0, 2, 1, 2])
    trained = read_onnx(folder / f"{name}.onnx", loss="cross_entropy").bind_shapes(
        {column: saved["x"].shape})
    check(trained.graph)
    loss, gradients = loss_and_gradients(trained, {column: saved["x"], "target": labels})
    scores = saved["y"].astype(np.float64)
    wanted = np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(4), labels])
    assert loss == pytest.approx(wanted, rel=1e-4)
    assert gradients.keys() == {p.name for p in trained.parameters if p.trainable}
    assert all(np.abs(gradient).max() > 0 for gradient in gradients.values())
