"""Options of an embedding that the exporter drops without a word: written out, or refused.

Only a table that is trained concerns them, but for `max_norm`, which changes the forward.
"""

from __future__ import annotations

import torch

from homespun.errors import Code, HomespunError
from ir.frontends.torch_nodes import place, stopped

EMBEDDING = torch.ops.aten.embedding.default
_OPTIONS = ("padding_idx", "scale_grad_by_freq", "sparse")
"""What follows the table and the ids, in the operator's order."""
_REFUSED = {
    "max_norm": "shortens rows of the table in place; bound them in forward, on the rows looked up",
    "scale_grad_by_freq": "divides a row's gradient by how often a microbatch has it; leave it out",
    "sparse": "is for optimizers that skip rows without gradient, which a job has none of; leave "
              "it out",
}


def check_embeddings(exported: torch.export.ExportedProgram) -> None:
    """Refuse tables that the forward itself changes.

    Raises:
        HomespunError: UNSUPPORTED_OP with the line of the model, for `max_norm`.
    """
    modules = exported.graph_module.modules()  # Regions without gradient have graphs of their own.
    graphs = [module.graph for module in modules if isinstance(module, torch.fx.GraphModule)]
    for node in (node for graph in graphs for node in graph.nodes):
        if node.target is torch.ops.aten.embedding_renorm_.default:
            raise _refused("max_norm", node)


def train_embedding(graph: torch.fx.Graph, rows: torch.fx.Node) -> torch.fx.Node:
    """Give the padding row of a trained table no gradient.

    Args:
        graph: edited in place.
        rows: the lookup; ids [...], result [..., D].

    Returns:
        The node that all former readers of `rows` read: itself where there is no padding row, else
        `where(ids == padding_idx, rows without gradient, rows)`.

    Raises:
        HomespunError: UNSUPPORTED_OP for `scale_grad_by_freq` and `sparse`.
    """
    options = dict(zip(_OPTIONS, rows.args[2:], strict=False))  # The others are left at default.
    for option in _OPTIONS[1:]:
        if options.get(option, False):
            raise _refused(option, rows)
    padding = options.get("padding_idx", -1)
    if padding < 0:
        return rows
    readers = tuple(rows.users)
    ids = rows.args[1]
    still = stopped(graph, rows)
    with graph.inserting_after(still):
        is_padding = graph.call_function(torch.ops.aten.eq.Scalar, (ids, padding))
    with graph.inserting_after(is_padding):
        column = graph.call_function(torch.ops.aten.unsqueeze.default, (is_padding, -1))
    with graph.inserting_after(column):
        chosen = graph.call_function(torch.ops.aten.where.self, (column, still, rows))
    chosen.meta.update(rows.meta)
    rows.replace_all_uses_with(chosen, delete_user_cb=lambda user: user in readers)
    return chosen


def _refused(option: str, node: torch.fx.Node) -> HomespunError:
    return HomespunError(
        Code.UNSUPPORTED_OP,
        f"The model uses an embedding with {option}{place(node)}, which {_REFUSED[option]}.",
    )
