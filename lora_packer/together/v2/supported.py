"""The service's catalogue of version 2: which base models it serves, under which names, and how each is deployed.

One supported model may be deployed in several quantizations, each under a name and with weights of its own. Names are
resolved as the vendor's own command line does (lib/cli/api/models/_resolve_base_model.py in together 3.1.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from lora_packer.together import refusal
from lora_packer.together.answers import number, objects, text
from lora_packer.together.client import Client
from lora_packer.together.refusal import Purpose
from lora_packer.together.v2.project import MODEL_PREFIX, paged

_MODEL = re.compile(r"projects/([^/]+)/models/([^/]+)(?:/revisions/[^/]+)?")
_CONFIG = re.compile(r"projects/[^/]+/configs/([^/]+)")
_MOST_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Profile:
    """One way in which a supported model is deployed.

    Attributes:
        name: what the model is called so; None where it is not.
        model_id: the ``ml_`` id of the weights; None where it names none.
        project: of which project they are.
        quantization: of the weights; empty where it names none.
        config: the configuration's path; None where it names none.
        config_id: its id.
        gpu_type, gpu_count: the GPUs of one replica.
    """

    name: str | None
    model_id: str | None
    project: str | None
    quantization: str
    config: str | None
    config_id: str | None
    gpu_type: str
    gpu_count: int | None

    def __str__(self) -> str:
        return f"{self.name or 'no name'} ({', '.join(filter(None, (self.model_id, self.quantization)))})"


@dataclass(frozen=True, slots=True)
class Supported:
    """A model of the catalogue.

    Attributes:
        name: its name.
        base_id: the ``ml_`` id of its base model; None where none is linked.
        profiles: how it is deployed.
        serverless: by which name it is asked without a deployment; None where it cannot be.
    """

    name: str | None
    base_id: str | None
    profiles: tuple[Profile, ...]
    serverless: str | None = None

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the models that it stands for: its base model's, and those of each quantization's weights."""
        return frozenset(filter(None, (self.base_id, *(one.model_id for one in self.profiles))))


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


def base_model(client: Client, name: str) -> dict[str, Any] | None:
    """Return the base model that has this name in the catalogue, as the service's own models are; None where there is
    none. Raises ServiceError where several have the name.
    """
    ids, found = supported_ids(client, name)
    if not ids:
        return None
    model_id = ids[0] if len(ids) == 1 else base_model_id(client, name)
    profiles = [profile for one in found or supported(client) for profile in one.profiles]
    project = next((one.project for one in profiles if one.model_id == model_id and one.project), None)
    return {"id": model_id, "name": name, "projectId": project} if project else None


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
    found = paged(client, "/v2/supported-models", purpose, retry=True, **query)
    return tuple(_supported(one) for one in found)


def profiles_of(client: Client, model_id: str) -> tuple[Profile, ...]:
    """Return the ways in which a base model of this ``ml_`` id is deployed: those with its own weights, else those of
    the model whose base it is. Raises ServiceError."""
    found = supported(client)
    own = [one for each in found for one in each.profiles if one.model_id == model_id]
    return tuple(own) or tuple(one for each in found if each.base_id == model_id for one in each.profiles)


def _supported(item: dict[str, Any]) -> Supported:
    profiles = tuple(_profile(one) for one in objects(item.get("deploymentProfiles")))
    return Supported(
        text(item.get("name")), text(item.get("baseModelId")), profiles, text(item.get("serverlessEndpoint"))
    )


def _profile(item: dict[str, Any]) -> Profile:
    model = _MODEL.fullmatch(text(item.get("model")) or "")
    path, config_id = text(item.get("config")), text(item.get("certifiedConfigRevisionId"))
    config = _CONFIG.fullmatch(path or "")
    if config is not None:
        config_id = config[1]
    elif config_id and model:
        path = f"projects/{model[1]}/configs/{config_id}"
    count = number(item.get("gpuCount"))
    return Profile(
        name=text(item.get("modelName")),
        model_id=model[2] if model else None,
        project=model[1] if model else None,
        quantization=text(item.get("quantization")) or "",
        config=path if config_id else None,
        config_id=config_id,
        gpu_type=text(item.get("gpuType")) or "",
        gpu_count=None if count is None else int(count),
    )
