"""Train a small transformer on English text, then let it write a little.

`python -m examples.train_text`, on the broker that this machine has joined, or else on a private
network. The trained weights end in `trained.safetensors`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import homespun
from examples.english import english
from examples.transformer import Transformer, generate, language_loss

CONTEXT = 64


def main() -> None:
    """Submit, watch, load the result and let the model write a little."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--output", type=Path, default=Path("trained.safetensors"))
    asked = parser.parse_args()
    torch.manual_seed(0)
    model = Transformer(width=64, layers=2, hidden=172, context=CONTEXT)
    text = english(CONTEXT)
    with homespun.connect_or_local(peers=3) as client:
        job = client.train(
            model,
            loss=language_loss,
            data={"tokens": text.train},
            validation={"tokens": text.validation[:32]},
            optimizer=homespun.AdamW(lr=3e-3), schedule=homespun.Cosine(warmup_steps=20),
            steps=asked.steps, batch_size=16, name="text",
        )
        job.watch()
        model.load_state_dict(job.result(asked.output).state_dict())
    print(generate(model, b"The ", 200, temperature=0.5).decode("ascii", "replace"))


if __name__ == "__main__":
    main()
