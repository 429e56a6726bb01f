"""The JAX executor: each segment is a few functions, compiled by XLA once, when it is loaded."""

from peer.executor.jax_executor.executor import JaxExecutor

__all__ = ["JaxExecutor"]
