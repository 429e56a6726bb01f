"""The ONNX Runtime executor: inference only, one session per segment."""

from peer.executor.onnxruntime_executor.executor import OnnxRuntimeExecutor

__all__ = ["OnnxRuntimeExecutor"]
