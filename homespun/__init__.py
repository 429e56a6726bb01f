"""The Homespun client: train models on GPUs that people already own.

```
client = homespun.connect()      # or homespun.local(peers=3): a network of this machine alone
job = client.train(model, loss=loss, data={"tokens": tokens}, optimizer=homespun.AdamW(lr=3e-4),
                   steps=200, batch_size=32)
job.watch()
model.load_state_dict(job.result().state_dict())
```
Names are loaded on first use, so that `import homespun` is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from homespun.errors import (
    BadConfiguration,
    CannotPlace,
    Code,
    Conflict,
    HomespunError,
    InvalidJob,
    InvalidModel,
    JobCancelled,
    JobFailed,
    NotAuthorised,
    NotFound,
    TimedOut,
    Unreachable,
)
from homespun.shadowing import check_own_packages

if TYPE_CHECKING:
    from homespun.client import Client, connect
    from homespun.job import Job
    from homespun.local_client import local
    from homespun.optimizers import SGD, Adam, AdamW, Constant, Cosine, Linear
    from homespun.result import Result
    from homespun.trainer import TrainingOutput, connect_or_local, train
    from homespun.training_arguments import TrainingArguments

    __version__: str

_WHERE = {
    "Adam": "homespun.optimizers",
    "AdamW": "homespun.optimizers",
    "Client": "homespun.client",
    "Constant": "homespun.optimizers",
    "Cosine": "homespun.optimizers",
    "Job": "homespun.job",
    "Linear": "homespun.optimizers",
    "Result": "homespun.result",
    "SGD": "homespun.optimizers",
    "TrainingArguments": "homespun.training_arguments",
    "TrainingOutput": "homespun.trainer",
    "connect": "homespun.client",
    "connect_or_local": "homespun.trainer",
    "local": "homespun.local_client",
    "train": "homespun.trainer",
}

__all__ = [
    "Adam", "AdamW", "BadConfiguration", "CannotPlace", "Client", "Code", "Conflict", "Constant",
    "Cosine", "HomespunError", "InvalidJob", "InvalidModel", "Job", "JobCancelled", "JobFailed",
    "Linear", "NotAuthorised", "NotFound", "Result", "SGD", "TimedOut", "TrainingArguments",
    "TrainingOutput", "Unreachable", "__version__", "connect", "connect_or_local", "local", "train",
]

check_own_packages()


def __getattr__(name: str) -> object:
    """Load a public name from its module on first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("homespun")
    elif name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
    else:
        raise AttributeError(f"module 'homespun' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """All public names, loaded or not."""
    return sorted(__all__)
