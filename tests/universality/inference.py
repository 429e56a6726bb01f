"""Run a model without a loss in three segments, and compare its outputs with torch's."""

from collections.abc import Mapping

import numpy as np
import torch

from ir.frontends.hugging_face import traceable
from ir.frontends.torch_module import import_inference
from ir.frontends.torch_step import named_outputs
from tests.pipeline import contiguous_parts, infer


def outputs_error(model: torch.nn.Module, columns: Mapping[str, np.ndarray], rows: int) -> float:
    """Largest distance of one output in the 2-norm, relative to that output.

    Args:
        model: called natively as `model(**columns)`, in evaluation mode.
        columns: what it reads; the first `rows` rows are used.
        rows: samples at once.
    """
    data = {name: column[:rows] for name, column in columns.items()}
    imported = import_inference(model, data)
    found = infer(imported, data, contiguous_parts(imported.graph, 3), "torch")
    model.eval()
    given = {name: torch.from_numpy(array) for name, array in data.items()}
    with torch.no_grad(), traceable(model):  # Natively as well without a cache among the outputs.
        expected = named_outputs(model(**given))
    assert found.keys() == expected.keys()
    return max(_distance(found[name], tensor.numpy()) for name, tensor in expected.items())


def _distance(found: np.ndarray, expected: np.ndarray) -> float:
    size = np.linalg.norm(expected.astype(np.float64))
    return float(np.linalg.norm(found.astype(np.float64) - expected) / max(size, 1e-12))
