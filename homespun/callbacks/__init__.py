"""Callbacks: told what a job does while it is followed; see `Callback`.

```
job.watch(callbacks=[TensorBoardCallback("runs"), MLflowCallback()])
```
The libraries behind the three that are here are optional, and loaded when one of them is made.
"""

from homespun.callbacks.base import Callback
from homespun.callbacks.events import Beginning, Recovery
from homespun.callbacks.mlflow import MLflowCallback
from homespun.callbacks.tensorboard import TensorBoardCallback
from homespun.callbacks.wandb import WandbCallback

__all__ = [
    "Beginning", "Callback", "MLflowCallback", "Recovery", "TensorBoardCallback", "WandbCallback",
]
