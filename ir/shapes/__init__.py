"""Shape and dtype inference in Python integers, before anything is allocated.

One file per rule family (`elementwise`, `shape_ops`, `indexing`, `reductions`, `neural`,
`convolution`, `einsum`), one `host` file for values that are known before the run, and `inference`
which drives them.
"""

from ir.shapes.inference import Inferred, infer, verify_types
from ir.shapes.limits import MAX_EXTENT, MAX_HOST_ELEMENTS, MAX_RANK, MAX_TENSOR_BYTES

__all__ = [
    "MAX_EXTENT", "MAX_HOST_ELEMENTS", "MAX_RANK", "MAX_TENSOR_BYTES",
    "Inferred", "infer", "verify_types",
]
