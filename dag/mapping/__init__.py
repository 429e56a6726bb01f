"""Mapping the nodes of a cost graph to devices: problem, judge, verification, search."""
