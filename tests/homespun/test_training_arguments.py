"""Arguments with the names of `transformers`, as arguments of `Client.train`."""

from __future__ import annotations

import dataclasses

import pytest

from homespun.errors import Code, HomespunError
from homespun.optimizers import SGD, AdamW, Constant, Cosine, Linear
from homespun.training_arguments import TrainingArguments, check_arguments


def options(rows: int = 100, *, evaluates: bool = False, **fields: object) -> dict[str, object]:
    return TrainingArguments(**fields).options(rows, evaluates=evaluates)  # type: ignore[arg-type]


def test_the_defaults_are_those_of_transformers() -> None:
    assert options(rows=100) == {
        "optimizer": AdamW(lr=5e-5, weight_decay=0.0), "schedule": Linear(), "steps": 38,
        "batch_size": 8, "microbatches": None, "clip_norm": 1.0, "seed": 42,
        "precision": "float32", "recompute": False, "evaluate_every": 0, "name": "",
        "peers": None}


def test_same_names_same_defaults() -> None:
    transformers = pytest.importorskip("transformers")
    theirs = {field.name: field.default for field in dataclasses.fields(
        transformers.TrainingArguments)}
    ours = {field.name: field.default for field in dataclasses.fields(TrainingArguments)}
    assert ours.keys() - theirs.keys() == {"peers"}
    # Theirs are: every 500 steps, a fused AdamW, and None for nothing.
    assert {name for name, default in ours.items() if default != theirs.get(name, default)} == {
        "logging_steps", "optim", "run_name", "gradient_checkpointing"}


def test_accumulated_batches_make_one_step() -> None:
    got = options(rows=100, per_device_train_batch_size=4, gradient_accumulation_steps=5)
    assert (got["batch_size"], got["microbatches"], got["steps"]) == (20, 5, 15)


@pytest.mark.parametrize(("epochs", "rows", "steps"), [(1.0, 16, 2), (1.0, 17, 3), (0.5, 16, 1),
                                                       (2.5, 16, 5), (0.01, 8, 1)])
def test_epochs_are_rounded_up_to_steps(epochs: float, rows: int, steps: int) -> None:
    assert options(rows=rows, num_train_epochs=epochs)["steps"] == steps


def test_max_steps_win() -> None:
    assert options(max_steps=7, num_train_epochs=9)["steps"] == 7


@pytest.mark.parametrize(("fields", "schedule"), [
    ({"lr_scheduler_type": "linear", "warmup_steps": 5}, Linear(warmup_steps=5)),
    ({"lr_scheduler_type": "cosine", "warmup_steps": 0.1}, Cosine(warmup_steps=3)),
    ({"lr_scheduler_type": "constant"}, Constant()),
    ({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 2.0}, Constant(warmup_steps=2)),
])
def test_schedules(fields: dict[str, object], schedule: object) -> None:
    assert options(max_steps=30, **fields)["schedule"] == schedule


def test_the_rest_has_other_names_in_client_train() -> None:
    got = options(optim="sgd", learning_rate=0.1, weight_decay=0.2, max_grad_norm=0, bf16=True,
                  gradient_checkpointing=True, run_name="mine", peers=2, seed=1)
    assert got["optimizer"] == SGD(lr=0.1, weight_decay=0.2)
    assert (got["clip_norm"], got["precision"], got["recompute"], got["name"], got["peers"]) == (
        0, "bfloat16", True, "mine", 2)


def test_when_to_evaluate() -> None:
    assert options(max_steps=9, evaluates=True)["evaluate_every"] == 9
    assert options(max_steps=9, evaluates=True, eval_steps=4)["evaluate_every"] == 4
    with pytest.raises(HomespunError, match="eval_steps needs an eval_dataset"):
        options(eval_steps=4)


@pytest.mark.parametrize(("name", "value"), [
    ("learning_rate", -1.0), ("learning_rate", "1e-3"), ("num_train_epochs", 0),
    ("num_train_epochs", float("nan")), ("max_steps", 0), ("max_steps", 2.5),
    ("per_device_train_batch_size", 0), ("gradient_accumulation_steps", True),
    ("optim", "adafactor"), ("lr_scheduler_type", "polynomial"), ("warmup_steps", 1.5),
    ("warmup_steps", -1), ("eval_steps", 0), ("logging_steps", 0.5), ("adam_beta1", 1.0),
])
def test_a_wrong_value_is_named(name: str, value: object) -> None:
    with pytest.raises(HomespunError) as caught:
        TrainingArguments(**{name: value})  # type: ignore[arg-type]
    assert caught.value.code is Code.INVALID_ARGUMENT
    said = {"learning_rate": "lr", "adam_beta1": "beta1"}.get(name, name)
    assert said in caught.value.message
    assert repr(value) in caught.value.message


def test_warm_up_needs_a_schedule_that_has_one() -> None:
    with pytest.raises(HomespunError, match="constant_with_warmup"):
        TrainingArguments(lr_scheduler_type="constant", warmup_steps=3)


def test_what_is_no_training_arguments_is_named() -> None:
    assert check_arguments(None) == TrainingArguments()
    with pytest.raises(HomespunError, match=r"it is a builtins\.dict"):
        check_arguments({"learning_rate": 1e-3})


def test_plain_values_for_callbacks() -> None:
    values = TrainingArguments(max_steps=3).to_dict()
    assert (values["max_steps"], values["output_dir"]) == (3, None)
