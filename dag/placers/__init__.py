"""Placement algorithms, one per file, each a `dag.placement.Placer`."""
