"""What a release asks before it sends anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

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
