"""Train a tiny language model on any network, as README's "You have a model to train" does.

First `homespun join HOST:PORT --key KEY`, then `python -m examples.train_tiny`. The trained
weights end in `trained.safetensors`.
"""

from __future__ import annotations

import torch

import homespun
from examples.english import english
from examples.transformer import Transformer, generate, language_loss

CONTEXT = 64


def main() -> None:
    """Submit, watch, load the result and let the model write a little."""
    torch.manual_seed(0)
    model = Transformer(width=64, layers=2, hidden=172, context=CONTEXT)
    text = english(CONTEXT)
    with homespun.connect() as client:
        job = client.train(
            model,
            loss=language_loss,
            data={"tokens": text.train},
            validation={"tokens": text.validation[:32]},
            optimizer=homespun.AdamW(lr=3e-3), schedule=homespun.Cosine(warmup_steps=20),
            steps=200, batch_size=16, name="tiny",
        )
        job.watch()
        model.load_state_dict(job.result("trained.safetensors").state_dict())
    print(generate(model, b"The ", 200, temperature=0.5).decode("ascii", "replace"))


if __name__ == "__main__":
    main()
