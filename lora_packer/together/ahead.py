"""What a release asks before it sends anything, and what it can say about a job that stands still."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lora_packer.duration import format_duration
from lora_packer.errors import ServiceError
from lora_packer.together.client import Client
from lora_packer.together.refusal import NEW_NAME

if TYPE_CHECKING:
    from lora_packer.together import Api


def ask_ahead(api: Api, client: Client, model_name: str, base_model: str, note: Callable[[str, str], None]) -> None:
    """Ask the service what would make it refuse, before gigabytes are sent: the key, the base model, the name.

    ``note`` is told a step and a sentence. A question without an answer is told and no more: the submission itself
    decides. Raises ServiceError where the key is refused or the name is taken.
    """
    try:
        hosted, earlier = api.hosts(client, base_model), api.find(client, model_name)
    except ServiceError as error:
        if error.status == 401:
            raise
        note("ask", f"{error.message} The submission will tell.")
        return
    if earlier is not None:
        raise ServiceError(
            f"The model name '{model_name}' already exists: job {earlier.id} is {earlier.status}. Nothing was sent.",
            hint=NEW_NAME,
            status=409,
        )
    if not hosted:
        note("warning", f"the service does not list {base_model} among the models of dedicated endpoints")


def why_it_stands_still(url: Mapping[str, Any] | None, now: datetime) -> str:
    """Return why a job may stand still, as far as it can be told from here: it was looked at, so the key is accepted.

    ``url`` is the receipt's section about the presigned URL.
    """
    key = "The service accepts the key."
    try:
        deadline = datetime.fromisoformat((url or {})["deadline"])
    except (KeyError, TypeError, ValueError):
        return f"{key} Whether the presigned URL is alive cannot be told: the receipt does not say when it expires."
    if deadline > now:
        return (
            f"{key} The presigned URL is good for {format_duration(deadline - now)} more, so the service may be slow."
        )
    return (
        f"{key} The presigned URL expired {format_duration(now - deadline)} ago, so the source can no longer be read. "
        "Once the job has failed, run the same command again: it mints a new URL and submits again. A job that never "
        "ends keeps its name: then choose a new --model-name and another --receipt."
    )
