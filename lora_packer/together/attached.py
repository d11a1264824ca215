"""An adapter that is attached to a running deployment of its base model, and how it fares in each cluster."""

from __future__ import annotations

from lora_packer.frozen import frozen


@frozen
class Cluster:
    """An attached adapter in one cluster (together 3.1.1, types/endpoints/deployment_adapter_status.py).

    Attributes:
        id: the cluster's id.
        state: ``PENDING``, ``LOADING``, ``READY``, ``REMOVING`` or ``FAILED``, as the service says it.
        valid: the service's verdict after it tried the adapter there; None until there is one.
        reason: why it is not valid or failed, in the service's words; empty where it says none.
    """

    id: str
    state: str
    valid: bool | None = None
    reason: str = ""

    def __str__(self) -> str:
        verdict = {True: ", valid", False: ", not valid", None: ""}[self.valid]
        return f"cluster {self.id}: {self.state}{verdict}{f' ({self.reason})' if self.reason else ''}"


@frozen
class Attached:
    """An adapter that is attached to a deployment of its base model.

    Attributes:
        id: the attachment's id; empty where the version of the API has none.
        model: the adapter's id or name.
        clusters: how it fares in each cluster; empty where that is not told.
        etag: what a change of it has to name.
    """

    id: str
    model: str
    clusters: tuple[Cluster, ...] = ()
    etag: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether every cluster has it, and found it valid."""
        return bool(self.clusters) and all(one.state == "READY" and one.valid for one in self.clusters)

    @property
    def refused(self) -> tuple[Cluster, ...]:
        """The clusters where it failed, or was found not to be valid."""
        return tuple(one for one in self.clusters if one.valid is False or one.state == "FAILED")
