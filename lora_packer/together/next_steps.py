"""What to do next, by what the service said: the first row of the table whose pattern is in the message.

A row has the words that are documented for it, and where. A message may name a file, a model and a limit at once
("adapter rank 256 in adapter_config.json exceeds the maximum of 64"), so what says more stands before what says less.
"""

from __future__ import annotations

import re
from functools import cache

from lora_packer.frozen import frozen

NEW_NAME = "Choose a new --model-name: every upload needs its own, adapters have no versions."

V1_CLOSED = "endpoints_v1_create_access_disabled"
"""The code of the service's 403 where it creates no more endpoints through version 1 of its API
(docs.together.ai/docs/dedicated-endpoints/migrate-from-v1)."""

V1_GONE = (
    "If version 1 of the API has ended by now, run the same command with --api v2 and a key of a project (a release "
    "with another --receipt)."
)
"""The next step where version 1 knows no such call. Its retirement is announced for the end of 2026
(docs.together.ai/docs/dedicated-endpoints/v1/adapter)."""

_BASE = "Check --base-model: it must be the model trained on, and one that the service serves on dedicated endpoints."
_CONTENT = "Run `lora-packer check`: it says what is wrong with the files. Correct it, then pack and upload them again."
_ANEW = "It cannot be started again: `lora-packer stop ENDPOINT --delete`, then `lora-packer deploy MODEL`."
_ROUTE = "It runs, but gets no traffic: `lora-packer deploy MODEL` again routes it."
_HARDWARE = "Choose one that `lora-packer hardware MODEL` lists, and give it as --hardware."
_ALONE = "`lora-packer deploy MODEL` serves it on hardware of its own."
_FILE = r"adapter_(config\.json|model\.safetensors)"
_SENT = r"\b(url|link|source|request|provided token|signature)\b"

# Where the words are documented: docs.together.ai/docs/dedicated-endpoints/..., and packages.
_ADAPTER = "docs.together.ai/docs/dedicated-endpoints/adapter"
_CUSTOM = "docs.together.ai/docs/dedicated-endpoints/custom-models"
_MANAGE = "docs.together.ai/docs/dedicated-endpoints/manage"
_MULTIPLE = "docs.together.ai/docs/dedicated-endpoints/lora-adapter"
_MIGRATE = "docs.together.ai/docs/dedicated-endpoints/migrate-from-v1"
_SKILLS = "github.com/togethercomputer/skills, skills/together-dedicated-model-inference/references/api-reference.md"
_CLI_V1 = "together 2.42.0, lib/cli/api/endpoints/create.py"
_OUMI = "github.com/oumi-ai/oumi, src/oumi/deploy/together_client.py"
_SEEN = "not documented; seen in answers to users"
_ERRORS = "docs.together.ai/docs/error-codes"
_S3 = "docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"


@frozen
class Row:
    """What to do about one kind of message.

    Attributes:
        pattern: what such a message has in it, whatever its case.
        step: what to do.
        source: where the words are documented.
        words: messages, or the parts of them that are documented.
    """

    pattern: str
    step: str
    source: str
    words: tuple[str, ...] = ()


TABLE = (
    # endpoints
    Row(
        V1_CLOSED,
        "The service creates endpoints through version 2 of its API only: with a key of a project, upload it there too "
        "and deploy it with `lora-packer release ... --api v2 --deploy --receipt NEW_FILE`.",
        _MIGRATE,
        (V1_CLOSED,),
    ),
    Row(r"endpoint_not_configured", _ROUTE, _MANAGE, ("endpoint_not_configured",)),
    Row(r"routing_error|receives traffic", _ROUTE, _SKILLS, ("routing_error",)),
    Row(
        r"non-serverless",
        "Create an endpoint for it first: `lora-packer deploy MODEL`.",
        _SEEN,
        ("Unable to access non-serverless model",),
    ),
    Row(
        r"(check|invalid) .*hardware|hardware is required",
        _HARDWARE,
        _CLI_V1,
        (
            "check the hardware api",
            "invalid hardware provided",
            "invalid hardware/gpu provided",
            "hardware is required",
        ),
    ),
    Row(
        r"cannot place replicas|insufficient (gpu )?capacity",
        "The service goes on trying, and starts it once GPUs are free; or end it with `lora-packer stop ENDPOINT`, and "
        "deploy it with another --hardware that `lora-packer hardware MODEL` lists.",
        _MANAGE,
        ("Cannot place replicas: insufficient GPU capacity",),
    ),
    Row(
        r"startup stalled|^not ready\b|: not ready\b",
        "A replica is still starting, or failed to: the words after the colon say why. Wait, or end it with "
        "`lora-packer stop ENDPOINT`.",
        _MANAGE,
        ("Startup stalled: pulling weights", "Not ready: the model server has not answered"),
    ),
    Row(
        r"timed out waiting for readiness|terminal failed state|cannot be restarted",
        _ANEW,
        _MANAGE,
        (
            "Timed out waiting for readiness",
            "the deployment is in a terminal FAILED state and cannot be restarted; create a new deployment",
        ),
    ),
    Row(
        r"chat_template",
        "The model has no chat template, which chat completions need: ask an adapter of an instruct model, or ask it "
        "with `lora-packer ask --completions`.",
        _CUSTOM,
        ("tokenizer.chat_template is not set",),
    ),
    Row(
        r"must be stopped before",
        "It is still stopping: run the same command again in a few minutes.",
        _MANAGE,
        (
            "the deployment must be stopped before it can be deleted",
            "the deployment must be stopped before it can be restarted",
        ),
    ),
    Row(
        r"traffic split",
        "It still gets traffic: `lora-packer stop ENDPOINT --delete` takes it out of the endpoint's traffic first.",
        _MANAGE,
        (
            "the deployment is referenced by an endpoint's traffic split and cannot be deleted; please drop traffic "
            "split weight to 0 before deleting the deployment",
        ),
    ),
    Row(
        r"no fields to update",
        "The service saw nothing to change: look at the endpoint with `lora-packer endpoints`, then run the same "
        "command again.",
        _SKILLS,
        ("no fields to update",),
    ),
    Row(
        r"live deployment",
        "End its endpoint first: `lora-packer stop ENDPOINT --delete`.",
        _ADAPTER,
        ("the model is referenced by a live deployment",),
    ),
    Row(
        r"no revisions? (to deploy|that passed)",
        "Its files are not there yet: `lora-packer models MODEL` shows them. Wait until the upload is Complete, then "
        "deploy it.",
        _MANAGE,
        ("the model has no revisions to deploy",),
    ),
    Row(r"etag", "It was changed meanwhile: run the same command again.", _SKILLS, ("stale etag",)),
    # adapters on an endpoint that runs already
    Row(
        r"does not have lora enabled",
        f"Attach it to an endpoint that was created with LoRA; or {_ALONE}",
        _MULTIPLE,
        ("endpoint does not have LoRA enabled",),
    ),
    Row(
        r"not compatible with (the )?endpoint",
        f"Attach it to an endpoint that runs its own base model; or {_ALONE}",
        _MULTIPLE,
        ("adapter base model is not compatible with endpoint model",),
    ),
    Row(
        r"already bound to",
        f"It is attached to another endpoint: remove it there first; or {_ALONE}",
        _MULTIPLE,
        ("adapter is already bound to endpoint",),
    ),
    Row(
        r"(not bound to|does not match) (the )?endpoint|model_id must be in format",
        "Look which adapters are attached where with `lora-packer endpoints ENDPOINT`, and name the two as it does.",
        _MULTIPLE,
        (
            "adapter is not bound to endpoint",
            "endpoint name in model_id does not match endpoint",
            "model_id must be in format 'endpoint_model_name:adapter_name'",
        ),
    ),
    Row(
        r"new_lora_model",
        f"An adapter is attached to a private dedicated endpoint of your own; or {_ALONE}",
        _MULTIPLE,
        ("new_lora_model must be a dedicated endpoint", "new_lora_model cannot be a public dedicated endpoint"),
    ),
    Row(
        r"could not find model",
        "Check the name: `lora-packer models` lists the adapters of this account.",
        _MULTIPLE,
        ("Could not find model",),
    ),
    Row(
        r"no endpoint with this id",
        "Check the id: `lora-packer endpoints` lists those of this account.",
        _MULTIPLE,
        ("No endpoint with this id exists",),
    ),
    # the account, the name, an upload that is under way
    Row(
        r"\btrial\b|payment|billing|\bcredits?\b|spending limit",
        "Add credit or raise the limit in the account's billing settings, then run it again.",
        _ERRORS,
        ("has reached its maximum allowed monthly spending limit",),
    ),
    Row(r"already exist|name .*(taken|in use)", NEW_NAME, _ADAPTER, ("Model name already exists",)),
    Row(
        r"upload (is )?already in progress|upload for this model is under way",
        "Its files are on their way already: `lora-packer models MODEL` shows how far they are.",
        _OUMI,
        ("upload already in progress",),
    ),
    Row(
        r"validation could not complete|validation .*internal error",
        "The trouble is on the service's side: look again later, or ask the service's support with this id.",
        _ADAPTER,
        ("Validation could not complete due to an internal error. Retry later or contact support.",),
    ),
    # where it is fetched from
    Row(
        rf"download|presigned|signature|expired.*{_SENT}|{_SENT}.*expired|expiredtoken|unreachable|access ?denied|"
        r"\bgated\b",
        "The source could not be read: check that the presigned URL is alive (`lora-packer publish` mints a new one), "
        "or for a Hub repo that HF_TOKEN may read it.",
        _S3,
        ("SignatureDoesNotMatch", "Access Denied", "Request has expired", "The provided token has expired."),
    ),
    # what was fetched
    Row(
        rf"missing required|at the root|nested|{_FILE}\W+(was |were )?(not found|missing)|"
        rf"(has|have|find|lacks?|without|missing)( no)? {_FILE}",
        "Both adapter_config.json and adapter_model.safetensors must be at the root: pack with `lora-packer pack`.",
        _ADAPTER,
        ("Missing required files",),
    ),
    Row(
        r"missing safetensors|only safetensors",
        "The weights must be one adapter_model.safetensors: save the adapter so, and `lora-packer pack` it.",
        _CUSTOM,
        ("missing safetensors files",),
    ),
    Row(
        r"\.zip\b|\.tar\b|\barchive\b",
        "Pack the adapter with `lora-packer pack`, and publish that archive.",
        _ADAPTER,
    ),
    Row(
        r"base.?model|model not found",
        _BASE,
        _CUSTOM,
        (
            "Base model incompatibility",
            "Model not found",
            "base_model_id is required",
        ),
    ),
    Row(
        r"peft_type|\b(use_)?dora\b|modules_to_save|rslora|rank_pattern|alpha_pattern",
        _CONTENT,
        "the fields' names: huggingface.co/docs/peft/package_reference/lora",
    ),
    Row(
        r"\brank\b|layer type|target_modules",
        "Check --base-model: not every base model is served with every rank and layer type. Where it is the right one, "
        "train the adapter again within what the message names.",
        _CUSTOM,
        ("layer type", "adapter rank"),
    ),
    Row(r"does not support lora", _BASE, _SEEN, ("does not support LoRA adapters",)),
    Row(rf"{_FILE}|invalid config\.json", _CONTENT, _CUSTOM, ("an invalid config.json",)),
    Row(r"not supported", _BASE, _MANAGE, ("Model not supported",)),
)
_ADDRESS = re.compile(r"https?://\S+")


def next_step(said: str) -> str | None:
    """Return what to do next for a message of the service's; None where nothing is known about what it says."""
    words = _ADDRESS.sub("", said[:4000])  # the names in an echoed URL say nothing
    return next((row.step for row in TABLE if _compiled(row.pattern).search(words)), None)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)
