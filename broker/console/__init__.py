"""The operator's console: pages over the core's views, and the operator's actions as buttons.

An edge of the broker ([ADR 0028](docs/adr/0028-console.md)): nothing but `broker.server` knows it.
"""
