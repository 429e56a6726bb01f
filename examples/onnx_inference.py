"""Run an ONNX file over many rows: here a classifier that scikit-learn has trained.

`python -m examples.onnx_inference`, on the broker that this machine has joined, or else on a
private network. It needs scikit-learn and skl2onnx: `pip install '.[examples]'`. Peers never see
Python objects, only the graph and its tensors.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import homespun
from homespun.extras import load_extra

if TYPE_CHECKING:
    from sklearn.neural_network import MLPClassifier

extra = partial(load_extra, extra="examples", purpose="This example")


def write_model(path: Path) -> MLPClassifier:
    """Train a small network on half of the digits and write it as an ONNX file."""
    found = extra("sklearn.datasets").load_digits()
    images = found.data.astype(np.float32) / 16
    networks = extra("sklearn.neural_network")
    model = networks.MLPClassifier((64,), random_state=0, max_iter=60)
    model.fit(images[::2], found.target[::2])
    graph = extra("skl2onnx").to_onnx(model, images[:1], options={"zipmap": False})
    path.write_bytes(graph.SerializeToString())
    return model


def main() -> None:
    """Predict on peers, and compare with scikit-learn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_797)
    asked = parser.parse_args()
    found = extra("sklearn.datasets").load_digits()
    images = found.data.astype(np.float32)[:asked.rows] / 16
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.onnx"
        model = write_model(path)
        with homespun.connect_or_local(peers=2) as client:
            job = client.infer(path, {"X": images}, batch_size=64, name="digits")
            job.watch()
            outputs = job.outputs()
    for name, output in outputs.items():
        print(f"{name}: {output.dtype} {list(output.shape)}")
    same = np.mean(outputs["label"] == model.predict(images))
    right = np.mean(outputs["label"] == found.target[:asked.rows])
    print(f"Right on {right:.1%} of {len(images)} digits; as scikit-learn says on {same:.1%}.")


if __name__ == "__main__":
    main()
