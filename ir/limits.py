"""Every limit on a graph that comes from outside, in one place.

They are far above what real models need and far below what hurts a broker: a graph carries no
weights, so 64 MiB hold a model of a hundred thousand operators.
"""

from __future__ import annotations

from typing import Final

GRAPH_BYTES: Final = 64 * 2**20
"""Size of the serialised graph."""
FIELDS: Final = 4_000_000
"""Protobuf fields in it: bounds the memory and time that parsing takes, which bytes alone do not
(an empty message is two bytes on the wire and a hundred in memory)."""
FIELD_BYTES: Final = 3
"""Fewest bytes per field, on average: exporters write about seven, an empty message takes two."""
DENSE_FIELDS: Final = 65_536
"""How often the two limits on fields are looked at; smaller graphs may be as dense as they like."""
NESTING: Final = 16
"""Depth of nested protobuf messages; graphs without subgraphs need 8."""
NODES: Final = 200_000
CONSTANTS_BYTES: Final = 64 * 2**20
"""All initializers and tensor attributes together, dense."""
PARAMETERS: Final = 100_000
NAME_CHARACTERS: Final = 512
"""Length of the name of a node, value, parameter or attribute."""
RANK: Final = 16
DIMENSION: Final = 2**31
"""Largest extent of one axis; some kernels overflow 32-bit indices beyond it."""
INPUTS_PER_NODE: Final = 8192
OUTPUTS_PER_NODE: Final = 1024
ATTRIBUTES_PER_NODE: Final = 64
ITEMS_PER_ATTRIBUTE: Final = 65_536
"""Entries of a list attribute, bytes of a string attribute."""
GRAPH_OUTPUTS: Final = 1024
PARAMETERS_BYTES: Final = 2**44
"""All parameters together: 16 TiB, ten times the largest model that is known."""
NODE_BYTES: Final = 2**41
"""What one node reads and writes: it has to fit one device."""
FLOPS: Final = 10**18
"""Forward, one microbatch: a year of work for ten good home devices is 10**22."""
UNROLLED_NODES: Final = 100_000
"""Nodes and iterations of a model that a front end flattens: what the submitter waits for."""
IMPORT_DEPTH: Final = 64
"""Functions and subgraphs inside each other in a model that a front end flattens."""
