"""Fine-tune the head of a Hugging Face model: tell Python code from prose.

`python -m examples.finetune_head`, on the broker that this machine has joined, or else on a private
network. It needs transformers: `pip install '.[examples]'`. Nothing is downloaded: the model is a
small BERT with random weights. With weights from a hub, only the line that makes the model differs.
"""

from __future__ import annotations

import argparse
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

import homespun
from examples.english import english
from homespun.extras import load_extra

if TYPE_CHECKING:
    from transformers import BertForSequenceClassification

LENGTH = 48
CLS = 0
"""The model reads its verdict off the first place, which holds this token in every row."""
ROWS = 1_500
TEST_ROWS = 300
Columns = dict[str, np.ndarray]


def code(length: int, rows: int) -> np.ndarray:
    """The first bytes of Python's own modules in rows of tokens, int64 [rows, length]."""
    data = b""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        if len(data) >= rows * length:
            break
        data += path.read_bytes()
    return np.frombuffer(data, np.uint8)[:rows * length].astype(np.int64).reshape(rows, length)


def texts() -> tuple[Columns, Columns]:
    """Prose (label 0) and code (label 1) in equal parts: rows to train on, and others."""
    half = (ROWS + TEST_ROWS) // 2
    tokens = np.concatenate([english(LENGTH).train[:half, :LENGTH], code(LENGTH, half)])
    tokens[:, 0] = CLS
    order = np.random.default_rng(0).permutation(len(tokens))
    columns = {"input_ids": tokens[order], "labels": (order >= half).astype(np.int64)}
    return ({name: column[TEST_ROWS:] for name, column in columns.items()},
            {name: column[:TEST_ROWS] for name, column in columns.items()})


def new_model() -> BertForSequenceClassification:
    """Everything but the pooler and the classifier is frozen."""
    torch.manual_seed(0)
    bert = load_extra("transformers", "examples", "This example")
    model: BertForSequenceClassification = bert.BertForSequenceClassification(bert.BertConfig(
        vocab_size=256, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, max_position_embeddings=LENGTH, initializer_range=0.1,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=2))
    model.bert.embeddings.requires_grad_(False)
    model.bert.encoder.requires_grad_(False)
    return model


@torch.no_grad()
def accuracy(model: BertForSequenceClassification, columns: Columns) -> float:
    """Share of rows whose label is the likelier one."""
    model.eval()
    logits = model(input_ids=torch.from_numpy(columns["input_ids"])).logits
    return float((logits.argmax(1).numpy() == columns["labels"]).mean())


def main() -> None:
    """Train the head, and say how well the model tells texts apart that it has not seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=150)
    asked = parser.parse_args()
    model = new_model()
    train, test = texts()
    before = accuracy(model, test)
    output = homespun.train(
        model, train,
        homespun.TrainingArguments(
            learning_rate=3e-3, max_steps=asked.steps, lr_scheduler_type="constant",
            per_device_train_batch_size=8, gradient_accumulation_steps=4, run_name="head"),
        eval_dataset=test)
    print(output)
    print(f"Right on {accuracy(model, test):.1%} of {TEST_ROWS} texts that it has not seen; "
          f"before, on {before:.1%}.")


if __name__ == "__main__":
    main()
