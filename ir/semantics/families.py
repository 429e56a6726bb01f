"""Every operator family, so that importing this module fills the table."""

from ir.semantics import dropout, elementwise

__all__ = ["dropout", "elementwise"]
