"""What to do next, by what the service said: the first line of the table whose pattern is in the message.

The next steps are those of the troubleshooting section of docs.together.ai/docs/dedicated-endpoints/adapter. A message
may name a file, a model and a limit at once ("adapter rank 256 in adapter_config.json exceeds the maximum of 64"), so
what says more stands before what says less.
"""

from __future__ import annotations

import re

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
_FILE = r"adapter_(config\.json|model\.safetensors)"
_SENT = r"\b(url|link|source|request|provided token|signature)\b"

_TABLE = (
    # endpoints
    (
        V1_CLOSED,
        "The service creates endpoints through version 2 of its API only: with a key of a project, upload it there too "
        "and deploy it with `lora-packer release ... --api v2 --deploy --receipt NEW_FILE`.",
    ),
    (
        r"routing_error|receives traffic",
        "It runs, but gets no traffic: `lora-packer deploy MODEL` again routes it.",
    ),
    (r"non-serverless", "Create an endpoint for it first: `lora-packer deploy MODEL`."),
    (
        r"(check|invalid) .*hardware|hardware is required",
        "Choose one that `lora-packer hardware MODEL` lists, and give it as --hardware.",
    ),
    (
        r"chat_template",
        "The model has no chat template, which chat completions need: ask an adapter of an instruct model, or call the "
        "service's /completions yourself.",
    ),
    (r"must be stopped before", "It is still stopping: run the same command again in a few minutes."),
    (r"live deployment", "End its endpoint first: `lora-packer stop ENDPOINT --delete`."),
    (r"etag", "It was changed meanwhile: run the same command again."),
    # the account, the name
    (
        r"\btrial\b|payment|billing|\bcredits?\b|spending limit",
        "Add credit or raise the limit in the account's billing settings, then run it again.",
    ),
    (r"already exist|name .*(taken|in use)", NEW_NAME),
    # where it is fetched from
    (
        rf"download|presigned|signature|expired.*{_SENT}|{_SENT}.*expired|expiredtoken|unreachable|access ?denied|"
        r"\bgated\b",
        "The source could not be read: check that the presigned URL is alive (`lora-packer publish` mints a new one), "
        "or for a Hub repo that HF_TOKEN may read it.",
    ),
    # what was fetched
    (
        rf"missing required|at the root|nested|{_FILE}\W+(was |were )?(not found|missing)|"
        rf"(has|have|find|lacks?|without|missing)( no)? {_FILE}",
        "Both adapter_config.json and adapter_model.safetensors must be at the root: pack with `lora-packer pack`.",
    ),
    (r"\.zip\b|\.tar\b|\barchive\b", "Pack the adapter with `lora-packer pack`, and publish that archive."),
    (r"base.?model|model not found|does not support lora", _BASE),
    (r"peft_type|\b(use_)?dora\b|modules_to_save|rslora|rank_pattern|alpha_pattern", _CONTENT),
    (
        r"\brank\b|layer type|target_modules",
        "Check --base-model: not every base model is served with every rank and layer type. Where it is the right one, "
        "train the adapter again within what the message names.",
    ),
    (_FILE, _CONTENT),
    (r"not supported", _BASE),
)
_ADDRESS = re.compile(r"https?://\S+")


def next_step(said: str) -> str | None:
    """Return what to do next for a message of the service's; None where nothing is known about what it says."""
    words = _ADDRESS.sub("", said[:4000])  # the names in an echoed URL say nothing
    return next((step for pattern, step in _TABLE if re.search(pattern, words, re.IGNORECASE)), None)
