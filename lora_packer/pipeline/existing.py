"""``--skip-existing``: a model name that is taken is fine where its upload is complete and fetched the same bytes.

The service tells no digest of what it has. What it fetched is known by the address alone that it was told: the key of
an archive that ``publish`` or ``release`` uploaded names its SHA-256, and an address on the Hub may name a commit.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lora_packer.errors import ServiceError

if TYPE_CHECKING:
    from lora_packer.hub import HubRepo
    from lora_packer.together import Api, Client, Job, ModelSource

_CHOOSE = "Choose a new --model-name, or look at what is there: `lora-packer models`."
_COMMIT = r"(?:@|/(?:tree|resolve|commit)/)([0-9a-f]{40})(?:/.*)?"


def require_base(api: Api, client: Client, job: Job, model_name: str, base_model: str) -> str:
    """Return what there is to say about the base model of what exists; nothing where it is this one.

    Raises ServiceError where it is another.
    """
    same = api.based_on(client, job, base_model)
    if same is False:
        raise ServiceError(
            f"{_exists(model_name, job)} It is based on another model than {base_model}. Nothing was sent.",
            hint=_CHOOSE,
            status=409,
        )
    return "" if same else "; on which base model, the service does not tell"


def archive_told(job: Job, model_name: str) -> str:
    """Return the first digits of the SHA-256 of the archive that a job fetched. Raises ServiceError where nothing tells
    them."""
    from lora_packer.publisher import digest_in

    digest = digest_in(job.source) if job.source else None
    if digest is None:
        raise unproven(job, model_name, f"{_fetched(job)}, which names no SHA-256")
    return digest


def commit_told(job: Job, model_name: str, repo: HubRepo) -> str:
    """Return the commit of the repository that a job fetched. Raises ServiceError where nothing tells it."""
    found = re.search(rf"(?:^|/){re.escape(repo.id)}{_COMMIT}$", job.source or "")
    if found is None:
        raise unproven(job, model_name, f"{_fetched(job)}, which names no commit of {repo.id}")
    return found[1]


def require_same(job: Job, model_name: str, told: str, ours: str) -> str:
    """Return the sentence for what exists with the same content; ``told`` is how its identity begins.

    Raises ServiceError where it is another.
    """
    if not ours:
        raise unproven(job, model_name, "it was not checked, so its own commit is not known")
    if not ours.startswith(told):
        raise ServiceError(
            f"{_exists(model_name, job)} It fetched other bytes: {told} in {job.source}, and here {ours[: len(told)]}. "
            "Nothing was sent.",
            hint=f"{_CHOOSE} Every upload needs its own name, adapters have no versions.",
            status=409,
        )
    return (
        f"nothing was sent: '{model_name}' exists, and job {job.id} is {job.status} with the same bytes ({told} in "
        f"{job.source})"
    )


def require_same_source(job: Job, model_name: str, source: ModelSource, commit: str | None) -> str:
    """Return the sentence for what exists and fetched what ``source`` names; of a repository, ``commit`` was checked.

    Raises ServiceError where it is another, or may be.
    """
    from lora_packer.hub import HubRepo
    from lora_packer.publisher import digest_in
    from lora_packer.redact import PresignedUrl

    if isinstance(source, HubRepo):
        return require_same(job, model_name, commit_told(job, model_name, source), commit or "")
    ours = digest_in(source.reveal()) if isinstance(source, PresignedUrl) else None
    if ours is None:
        raise unproven(job, model_name, "the key in this URL names no SHA-256, as those of `publish` do")
    return require_same(job, model_name, archive_told(job, model_name), ours)


def unproven(job: Job, model_name: str, why: str) -> ServiceError:
    """Return the error for what exists and may be something else."""
    return ServiceError(
        f"{_exists(model_name, job)} Whether it has the same bytes cannot be proven: {why}. Nothing was sent.",
        hint=_CHOOSE,
        status=409,
    )


def _exists(model_name: str, job: Job) -> str:
    return f"The model name '{model_name}' already exists: job {job.id} is {job.status}."


def _fetched(job: Job) -> str:
    return f"the service fetched {job.source}" if job.source else "the service does not tell what it fetched"
