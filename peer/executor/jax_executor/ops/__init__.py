"""JAX's own operator implementations; importing this package fills the table."""

from peer.executor.jax_executor.ops import attention, convolution, pooling, products, sigmoid

__all__ = ["attention", "convolution", "pooling", "products", "sigmoid"]
