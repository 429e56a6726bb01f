"""Every operator family, so that importing this module fills the table."""

from ir.semantics import batch_norm, dropout, elementwise

__all__ = ["batch_norm", "dropout", "elementwise"]
