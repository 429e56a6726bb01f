"""A job as a question to the planner: described as for submission, with nothing stored or sent."""

from __future__ import annotations

from dag.cluster import Cluster
from dag.job import PREDICT, ColumnRef, JobSpec, ParameterRef
from dag.placement import PlacementProblem
from homespun.dataset import Dataset, type_of
from homespun.job_requests import JobRequests
from homespun.submission import Notify, Wish, needed_parameters
from ir.frontends.imported import Imported
from ir.graph import INFER, TensorType


class JobPlanner(JobRequests[PlacementProblem]):
    """Asked as a client is; the answer is the problem that the broker's planner would get."""

    def __init__(self, cluster: Cluster, notify: Notify | None = None) -> None:
        """Plan for these peers."""
        super().__init__(notify)
        self._cluster = cluster

    def _submit(self, imported: Imported, dataset: Dataset, wish: Wish) -> PlacementProblem:
        from ir.admission import check_admission

        for note in imported.notes:
            self._notify(note)
        check_admission(imported.graph, wish.kind)
        return PlacementProblem(
            graph=imported.graph, job=_spec(imported, dataset, wish), cluster=self._cluster)


def _spec(imported: Imported, dataset: Dataset, wish: Wish) -> JobSpec:
    """As `homespun.submission.submit` makes it, without digests."""
    graph = imported.graph
    split = PREDICT if wish.kind == INFER else "train"
    return JobSpec(
        name=wish.name, graph_digest="", graph_bytes=len(imported.graph_bytes),
        parameters=tuple(
            ParameterRef(
                name=parameter.name, aliases=parameter.aliases, digest="", blob_bytes=0,
                type=type_of(parameter.value), trainable=parameter.trainable)
            for parameter in needed_parameters(imported, wish)),
        columns=tuple(
            ColumnRef(name=name, split=split, digest="", blob_bytes=0, type=TensorType(
                dtype=graph.types[name].dtype,
                shape=(dataset.rows, *graph.types[name].shape[1:])))
            for name in graph.inputs),
        training=wish.training, peers=wish.peers, kind=wish.kind)
