"""Which next step a message of the service gets: the one for what it says, not for a file that it happens to name."""

from __future__ import annotations

import json

import pytest

from lora_packer.together.next_steps import TABLE, Row, _compiled, next_step
from lora_packer.together.reasons import message_of

ROOT = "must be at the root"
NAME = "Choose a new --model-name"
BASE = "it must be the model trained on"
SERVED = "not every base model is served with every rank"
CONTENT = "`lora-packer check`"
ARCHIVE = "`lora-packer pack`"
SOURCE = "The source could not be read"
MONEY = "billing"

MESSAGES = {
    # what is in the archive, and where
    "Missing required files: adapter_config.json": ROOT,
    "Missing required files: adapter_config.json. The files are nested in the top-level directory 'x'": ROOT,
    "adapter_model.safetensors was not found": ROOT,
    "adapter_config.json not found in archive": ROOT,
    "could not find adapter_config.json": ROOT,
    "the archive has no adapter_model.safetensors": ROOT,
    "files must not be nested in a directory": ROOT,
    "adapter_model.safetensors is not at the root of the archive": ROOT,
    "model_source is neither a .zip nor a .tar.gz archive": ARCHIVE,
    "the archive cannot be read: BadZipFile": ARCHIVE,
    "unsupported archive format": ARCHIVE,
    # what the files say
    "invalid adapter_config.json: r must be a positive integer": CONTENT,
    "adapter_config.json is not the configuration of a LoRA adapter": CONTENT,
    "adapter_config.json: peft_type IA3 is not supported": CONTENT,
    "adapter_config.json is not valid JSON": CONTENT,
    "modules_to_save is not supported": CONTENT,
    "use_dora is not supported": CONTENT,
    "adapter_model.safetensors is empty or not complete": CONTENT,
    "adapter_model.safetensors has a header that cannot be read": CONTENT,
    "adapter_files: adapter_model.safetensors holds values that are not finite": CONTENT,
    # what the base model is served with
    "adapter rank 256 in adapter_config.json exceeds the maximum of 64": SERVED,
    "adapter rank 512 is not supported": SERVED,
    "unsupported adapter rank 512": SERVED,
    "rank 512 is not supported": SERVED,
    "adapter_rank: rank 128 exceeds the maximum": SERVED,
    "unsupported layer type conv1d": SERVED,
    "target_modules in adapter_config.json has lm_head, which is not supported": SERVED,
    "base model org/x is not supported": BASE,
    "base model incompatibility: the adapter does not fit the base model": BASE,
    "base_model_name_or_path in adapter_config.json does not match the base model": BASE,
    "base_model_id is required": BASE,
    "Model not found": BASE,
    "org/x does not support LoRA adapters": BASE,
    # where it is fetched from
    "could not download model_source: HTTP 403": SOURCE,
    "could not download model_source: the archive is too large": SOURCE,
    "could not download adapter_config.json": SOURCE,
    "presigned URL expired": SOURCE,
    "the presigned url has expired": SOURCE,
    "AccessDenied: Request has expired": SOURCE,
    "ExpiredToken: The provided token has expired.": SOURCE,
    "SignatureDoesNotMatch": SOURCE,
    "Access Denied": SOURCE,
    "the source is unreachable": SOURCE,
    "the repository org/x is gated": SOURCE,
    # the account
    "your trial expired, add a payment method": MONEY,
    "insufficient credits": MONEY,
    "your organization has exceeded its spending limit": MONEY,
    # names, endpoints
    "Model name already exists": NAME,
    "the name my-adapter is already taken": NAME,
    "an adapter_config.json of this name already exists": NAME,
    "the deployment must be stopped before it can be deleted": "still stopping",
    "the model is referenced by a live deployment": "--delete",
    "the etag is stale: read the endpoint again": "run the same command again",
    "invalid hardware provided: check the hardware API": "lora-packer hardware MODEL",
    "tokenizer.chat_template is not set": "chat template",
    "Unable to access non-serverless model x": "Create an endpoint for it first",
    "no deployment of x receives traffic": "routes it",
}


# What the vendor documents word for word, and what each says to do.
DOCUMENTED = {
    # docs.together.ai/docs/dedicated-endpoints/manage, "Troubleshooting"
    "endpoint_not_configured": "routes it",
    "Cannot place replicas: insufficient GPU capacity": "goes on trying",
    "Startup stalled": "still starting",
    "Not ready": "still starting",
    "Timed out waiting for readiness": "`lora-packer deploy MODEL`",
    "the deployment is in a terminal FAILED state and cannot be restarted; create a new deployment": "--delete`, then",
    "the deployment must be stopped before it can be restarted": "in a few minutes",
    "the deployment must be stopped before it can be deleted": "in a few minutes",
    "the model has no revisions to deploy": "until the upload is Complete",
    "the deployment is referenced by an endpoint's traffic split and cannot be deleted; please drop traffic split weight "
    "to 0 before deleting the deployment": "takes it out of the endpoint's traffic",
    # .../adapter and .../custom-models, "Troubleshooting"
    "Model name already exists": "new --model-name",
    "Missing required files": "lora-packer pack",
    "Base model incompatibility": "--base-model",
    "Model not found": "--base-model",
    "base_model_id is required": "--base-model",
    "tokenizer.chat_template is not set": "--completions",
    "the model is referenced by a live deployment": "lora-packer stop",
    "Validation could not complete due to an internal error. Retry later or contact support.": "look again later",
    "missing safetensors files": "adapter_model.safetensors",
    "an invalid config.json": "lora-packer check",
    # .../lora-adapter, "Troubleshooting"
    "model_id must be in format 'endpoint_model_name:adapter_name'": "name the two",
    "endpoint name in model_id does not match endpoint": "name the two",
    "Could not find model": "lora-packer models",
    "No endpoint with this id exists": "lora-packer endpoints",
    "endpoint does not have LoRA enabled": "created with LoRA",
    "adapter base model is not compatible with endpoint model": "its own base model",
    "adapter is already bound to endpoint": "remove it there",
    "adapter is not bound to endpoint": "name the two",
    "new_lora_model must be a dedicated endpoint": "private dedicated endpoint",
    "new_lora_model cannot be a public dedicated endpoint": "private dedicated endpoint",
    # .../migrate-from-v1; the vendor's guide for agents; other people's clients
    "endpoints_v1_create_access_disabled": "--api v2 --deploy",
    "routing_error": "routes it",
    "no fields to update": "nothing to change",
    "upload already in progress": "on their way",
}


@pytest.mark.parametrize("message", DOCUMENTED)
def test_every_documented_message_has_a_row_with_its_source(message: str) -> None:
    row = next(row for row in TABLE if _compiled(row.pattern).search(message))
    assert DOCUMENTED[message] in row.step
    assert any(words.startswith(message) or message in words for words in row.words), row
    assert row.source


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.pattern[:40])
def test_a_row_is_met_by_its_own_words(row: Row) -> None:
    for words in row.words:
        assert next_step(words) == row.step, words
        assert next_step(f"invalid argument: {words}.") == row.step
    assert row.step.endswith(".")


@pytest.mark.parametrize("message", MESSAGES)
def test_the_next_step_is_that_of_the_message(message: str) -> None:
    assert MESSAGES[message] in (next_step(message) or "none")


@pytest.mark.parametrize(
    "message",
    [
        "something else",
        "internal error",
        "the session expired",
        "the request was refused",
        "https://b.s3.amazonaws.com/adapter_config.json?X-Amz-Signature=1 rejected",
    ],
)
def test_a_message_that_says_nothing_known_gets_none(message: str) -> None:
    assert next_step(message) is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {"message": "invalid argument", "code": 3, "details": [{"detail": "adapter rank 128 exceeds 64"}]},
            "invalid argument: adapter rank 128 exceeds 64",
        ),
        ({"message": "a", "details": [{"detail": "b"}, {"reason": "X"}, "c"]}, "a: b; c"),
        ({"message": "a b", "details": [{"detail": "b"}]}, "a b"),
        ({"details": [{"detail": "b"}]}, "b"),
        ({"message": "a", "details": []}, "a"),
        ({"message": "a", "details": None}, "a"),
        ({"error": {"message": "a", "code": "x", "details": [{"detail": "b"}]}}, "a: b (x)"),
        ({"error": "Bad Request", "message": "the rank is too high"}, "Bad Request: the rank is too high"),
        ({"error": {"message": "", "code": "endpoint_not_configured"}}, "endpoint_not_configured"),
        ({"error": {"message": "no traffic", "type": "routing_error"}}, "no traffic (routing_error)"),
        ({"error": {"message": "no", "type": "invalid_request_error"}}, "no"),
        ({"error": {"message": "is required", "param": "base_model"}}, "base_model: is required"),
        ({"error": {"message": "base_model is required", "param": "base_model"}}, "base_model is required"),
        ({"detail": [{"loc": ["body", "model_name"], "msg": "field required"}]}, "model_name: field required"),
        ({"title": "Conflict", "detail": "the name is taken", "status": 409}, "Conflict: the name is taken"),
        (
            {"message": "a", "details": [{"fieldViolations": [{"field": "autoscaling", "description": "min is 0"}]}]},
            "a: autoscaling: min is 0",
        ),
        ({"errors": [{"message": "b"}, "c"]}, "b; c"),
        ({"detail": [{"msg": str(number)} for number in range(7)]}, "0; 1; 2; 3; 4; and 2 more"),
        ({"code": 3}, None),
        ({"type": "server_error"}, None),
    ],
)
def test_the_reason_is_read_wherever_it_is(body: object, said: str | None) -> None:
    """together 3.1.1, lib/cli/utils/_api_error.py."""
    assert message_of(json.dumps(body).encode(), "application/json") == said


def test_the_reason_of_a_store_is_read_out_of_its_xml() -> None:
    body = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>'
    assert message_of(body, "application/xml") == "AccessDenied: Request has expired"
    assert message_of(b"<html><body>Bad gateway</body></html>", "text/html") is None
