"""The service's catalogue of version 2: which base models it serves, under which names, and how each is deployed.

One supported model may be deployed in several quantizations, each under a name and with weights of its own. Names are
resolved as the vendor's own command line does (lib/cli/api/models/_resolve_base_model.py in together 3.1.1).
"""

from __future__ import annotations

from lora_packer.together import refusal
from lora_packer.together.client import Client
from lora_packer.together.refusal import Purpose
from lora_packer.together.v2.project import MODEL_PREFIX, paged
from lora_packer.together.v2.told_models import ToldModel
from lora_packer.together.v2.told_offers import Profile, Supported, supported_in

_MOST_SHOWN = 5


def base_model_id(client: Client, name: str) -> str:
    """Return the ``ml_`` id that an adapter is created on. Raises ServiceError where the service supports no base model
    of this name, or several."""
    ids, found = supported_ids(client, name)
    if len(ids) == 1:
        return ids[0]
    shown = [profile for one in found for profile in one.profiles if profile.model_id]
    if ids:
        what = (
            f"several have that name: {', '.join(str(one) for one in shown if one.model_id in ids) or ', '.join(ids)}"
        )
        hint = f"Give the id of the one that it was trained on, like --base-model {ids[0]}."
    else:
        what = "the service does not support it on dedicated endpoints"
        similar = [str(one) for one in shown] or [one.name for one in found if one.name]
        what += f"; similar: {', '.join(dict.fromkeys(similar[:_MOST_SHOWN]))}" if similar else ""
        hint = "Check --base-model: it must be one that the service serves on dedicated endpoints."
    raise refusal.error(Purpose(action=f"find the base model {name}"), what, None, hint, 200)


def base_model(client: Client, name: str) -> ToldModel | None:
    """Return the base model that has this name in the catalogue, as the service's own models are; None where there is
    none. Raises ServiceError where several have the name.
    """
    ids, found = supported_ids(client, name)
    if not ids:
        return None
    model_id = ids[0] if len(ids) == 1 else base_model_id(client, name)
    profiles = [profile for one in found or supported(client) for profile in one.profiles]
    project = next((one.project for one in profiles if one.model_id == model_id and one.project), None)
    return ToldModel(model_id, name, project) if project else None


def supported_ids(client: Client, name: str) -> tuple[tuple[str, ...], tuple[Supported, ...]]:
    """Return the ``ml_`` ids of what has this name, and everything that was found for it. Raises ServiceError.

    A name is first of all that of a deployment, whose weights it means: ``Qwen/Qwen3.5-9B-FP8`` has other ones than
    ``Qwen/Qwen3.5-9B``. Where no deployment has it, the catalogue's own name means its base model.
    """
    if name.startswith(MODEL_PREFIX):
        return (name,), ()
    found = supported(client, name)
    if ids := _ids_in(found, name):
        return ids, found
    # What the search looks at is documented for the catalogue's own names only.
    everything = supported(client)
    ids = _ids_in(everything, name)
    return ids, everything if ids else found


def _ids_in(found: tuple[Supported, ...], name: str) -> tuple[str, ...]:
    """The ids of what has this name."""
    named = [(each, one) for each in found for one in each.profiles if one.name == name]
    deployed = {made_of for each, one in named if (made_of := one.model_id or each.base_id)}
    called = [each for each in found if each.name == name]
    linked = {each.base_id for each in called if each.base_id}
    weights = {one.model_id for each in called for one in each.profiles if one.model_id}
    return tuple(sorted(deployed or linked or weights))


def supported(client: Client, search: str = "") -> tuple[Supported, ...]:
    """Return the models of the catalogue, those that the search finds. Raises ServiceError."""
    purpose = Purpose(action=f"find the base model {search}" if search else "list the supported models")
    query = {"search": search} if search else {}
    return tuple(paged(client, "/v2/supported-models", purpose, supported_in, retry=True, **query))


def profiles_of(client: Client, model_id: str) -> tuple[Profile, ...]:
    """Return the ways in which a base model of this ``ml_`` id is deployed: those with its own weights, else those of
    the model whose base it is. Raises ServiceError."""
    found = supported(client)
    own = [one for each in found for one in each.profiles if one.model_id == model_id]
    return tuple(own) or tuple(one for each in found if each.base_id == model_id for one in each.profiles)
