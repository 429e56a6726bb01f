"""The torch executor: segments as flat lists of torch calls, differentiated by torch's autograd."""

from peer.executor.torch_executor.executor import TorchExecutor

__all__ = ["TorchExecutor"]
