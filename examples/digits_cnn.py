"""Train a convolutional network on scikit-learn's handwritten digits, in one call.

`python -m examples.digits_cnn`, on the broker that this machine has joined, or else on a private
network. It needs scikit-learn: `pip install '.[examples]'`. With `--tensorboard runs`, its curves
go there: `tensorboard --logdir runs` shows them.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import homespun
from homespun.callbacks import TensorBoardCallback
from homespun.extras import load_extra

TEST_ROWS = 360


class DigitsCNN(nn.Module):
    """Grey images [B, 1, 8, 8], values from 0 to 1, to logits [B, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 4 * 4, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the ten digits."""
        return self.layers(images)


def digits() -> tuple[TensorDataset, TensorDataset]:
    """Images and labels: rows to train on, and `TEST_ROWS` others."""
    found = load_extra("sklearn.datasets", "examples", "This example").load_digits()
    order = torch.randperm(len(found.images), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(found.images / 16, dtype=torch.float32)[order, None]
    labels = torch.tensor(found.target)[order]
    return (TensorDataset(images[TEST_ROWS:], labels[TEST_ROWS:]),
            TensorDataset(images[:TEST_ROWS], labels[:TEST_ROWS]))


@torch.no_grad()
def accuracy(model: nn.Module, data: TensorDataset) -> float:
    """Share of rows whose label is the likeliest one."""
    images, labels = data.tensors
    return float((model(images).argmax(1) == labels).float().mean())


def main() -> None:
    """Train, and say how well the trained model reads digits that it has not seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--tensorboard", metavar="FOLDER")
    asked = parser.parse_args()
    torch.manual_seed(0)
    model = DigitsCNN()
    train, test = digits()
    output = homespun.train(
        model, train,
        homespun.TrainingArguments(
            learning_rate=3e-3, num_train_epochs=asked.epochs, lr_scheduler_type="cosine",
            per_device_train_batch_size=16, gradient_accumulation_steps=4, run_name="digits"),
        eval_dataset=test, loss=nn.CrossEntropyLoss(),
        callbacks=[TensorBoardCallback(asked.tensorboard)] if asked.tensorboard else [])
    print(output)
    print(f"Right on {accuracy(model, test):.1%} of {TEST_ROWS} digits that it has not seen.")


if __name__ == "__main__":
    main()
