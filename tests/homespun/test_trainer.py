"""`homespun.train` with what cannot work: it says so before any network is asked or started."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import homespun
from homespun.errors import Code, HomespunError

DATA = {"x": np.zeros((4, 2), np.float32), "y": np.zeros((4, 1), np.float32)}
LOSS = torch.nn.MSELoss()


@pytest.fixture(autouse=True)
def _no_broker(tmp_path, monkeypatch):
    """Whoever gets as far as a network fails in another way."""
    monkeypatch.setenv("HOMESPUN_CREDENTIALS", str(tmp_path / "nobody"))


def refusal(*given, loss=LOSS, **options):
    with pytest.raises(HomespunError) as caught:
        homespun.train(torch.nn.Linear(2, 1), *given, loss=loss, **options)
    return caught.value


@pytest.mark.parametrize(("given", "options", "said"), [
    ((DATA, {"max_steps": 3}), {}, "args must be homespun.TrainingArguments"),
    ((DATA,), {"callbacks": [print]}, "callbacks must be instances"),
    ((3,), {}, "train_dataset must be a dict of arrays"),
    ((DATA,), {"eval_dataset": 3}, "eval_dataset must be a dict of arrays"),
    ((DATA,), {"eval_dataset": {"x": DATA["x"]}}, "has the columns ['x']"),
    (({"x": [1.0]},), {}, "column 'x' must be a numpy array"),
    (({**DATA, "x": DATA["x"] * np.nan},), {}, "NaN or infinite value in row 0"),
    ((DATA, homespun.TrainingArguments(eval_steps=2)), {}, "eval_steps needs an eval_dataset"),
    ((DATA,), {"loss": None}, "forward takes none of them: it takes input"),
])
def test_it_is_refused_here(given, options, said):
    error = refusal(*given, **options)
    assert error.code is Code.INVALID_ARGUMENT
    assert said in error.message


def test_the_arguments_of_transformers_are_told_apart():
    transformers = pytest.importorskip("transformers")
    kind = transformers.TrainingArguments
    error = refusal(DATA, kind.__new__(kind))  # making one in full needs another library
    assert "transformers.training_args.TrainingArguments" in error.message
    assert "the same names" in error.message


def test_credentials_that_are_asked_for_must_be_there():
    """Else a mistyped path would train on this machine, silently."""
    assert refusal(DATA).code is Code.BAD_CONFIGURATION
