"""The service's steps one at a time, as functions: submit, wait, deploy, ask and stop.

Each connects by TOGETHER_API_KEY unless it is given a client, and speaks the version of the API that ``api`` names:
``auto`` is version 2 where the key has a project, else version 1.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING

from lora_packer.arguments import require_duration, require_one_of, require_text
from lora_packer.pipeline.service import DEFAULT_TIMEOUT

if TYPE_CHECKING:
    from lora_packer.redact import Secret
    from lora_packer.together import Answer, Api, Client, Endpoint, Job


def submit(
    source: str | Secret,
    *,
    model_name: str,
    base_model: str,
    description: str | None = None,
    api: str = "auto",
    skip_existing: bool = False,
    client: Client | None = None,
) -> Job:
    """Submit the upload job for an adapter that the service can fetch, once; it is not waited for.

    Args:
        source: a presigned URL (``publish(...).published.url``), or a Hub repository such as ``hf://org/repo``, whose
            token is HF_TOKEN. Neither is checked here: ``check`` and ``publish`` do that.
        model_name: the new adapter's name at the service.
        base_model: the id under which the service hosts the base model.
        description: of the adapter, for the service.
        api: ``auto``, ``v1`` or ``v2``.
        skip_existing: return the job of a model of this name, where it is complete and provably fetched the same bytes.
        client: of the service.

    Raises:
        InputError: a name or the source cannot be one, or the URL does not live long enough.
        ServiceError: the service refused; ``in_doubt`` where the job may exist nevertheless.
    """
    from datetime import UTC, datetime

    from lora_packer.hub import HubRepo
    from lora_packer.pipeline.existing import require_base, require_same_source
    from lora_packer.redact import Secret, read_token
    from lora_packer.together import Submission, ask_ahead, parse_presigned, parse_source, require_life, validate_names

    text = source.reveal() if isinstance(source, Secret) else source
    require_text(text, "source")
    validate_names(model_name, base_model)
    with _connected(client, api) as (connected, version):
        is_url = text.startswith(("http://", "https://")) and "?" in text
        place = parse_presigned(text, allow_loopback=connected.is_loopback) if is_url else parse_source(text)
        if not isinstance(place, HubRepo) and not skip_existing:
            require_life(place, now=datetime.now(UTC))
        token = read_token(os.environ, "HF_TOKEN") if isinstance(place, HubRepo) else None
        existing = ask_ahead(
            version, connected, model_name, base_model, lambda _stage, _text: None, skip_existing=skip_existing
        )
        if existing is not None:
            require_same_source(existing, model_name, place, None)
            require_base(version, connected, existing, model_name, base_model)
            return existing
        if not isinstance(place, HubRepo):  # where the name exists, a URL that is dead by now is as good as any
            require_life(place, now=datetime.now(UTC))
        return version.submit(connected, Submission(model_name, place, base_model, description, token))


def wait(
    job_id: str,
    *,
    timeout: timedelta = DEFAULT_TIMEOUT,
    api: str = "auto",
    client: Client | None = None,
    on_change: Callable[[Job], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Job:
    """Look at an upload job until it is complete, and return it.

    Raises JobFailedError, WaitTimeoutError, ServiceError, InputError.
    """
    from lora_packer.together import wait_for_job

    require_text(job_id, "job_id")
    require_duration(timeout, "timeout")
    with _connected(client, api, job_id) as (connected, version):
        return wait_for_job(version, connected, job_id, timeout=timeout, on_change=on_change, sleep=sleep)


def deploy(
    model: str,
    *,
    hardware: str | None = None,
    wait: bool = True,
    timeout: timedelta = DEFAULT_TIMEOUT,
    api: str = "auto",
    client: Client | None = None,
    on_change: Callable[[Endpoint], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Endpoint:
    """Create an endpoint for a model, unless there is one, and return it: it costs money until it is stopped.

    Raises ServiceError, WaitTimeoutError (it goes on to cost money after either), InputError.
    """
    from lora_packer.together import Wanted, ensure_endpoint, serve

    require_text(model, "model")
    require_duration(timeout, "timeout")
    with _connected(client, api) as (connected, version):
        endpoint, _ = ensure_endpoint(version, connected, model, Wanted(hardware=hardware))
        if not wait:
            return endpoint
        return serve(version, connected, endpoint, timeout=timeout, on_change=on_change, sleep=sleep)


def ask(endpoint: str, prompt: str, *, api: str = "auto", client: Client | None = None) -> Answer:
    """Ask an endpoint, by its id or the name of what it serves. Raises ServiceError, InputError."""
    require_text(endpoint, "endpoint")
    require_text(prompt, "prompt")
    with _connected(client, api, endpoint) as (connected, version):
        return version.ask(connected, endpoint, prompt)


def stop(endpoint: str, *, delete: bool = False, api: str = "auto", client: Client | None = None) -> Endpoint:
    """Stop an endpoint, or delete it for good, and return it as it is then. Raises ServiceError, InputError."""
    require_text(endpoint, "endpoint")
    with _connected(client, api, endpoint) as (connected, version):
        return version.stop(connected, endpoint, delete=delete)


@contextmanager
def _connected(client: Client | None, api: str, thing: str = "") -> Iterator[tuple[Client, Api]]:
    """Connect, and choose the version of the API."""
    from lora_packer.together import CHOICES, Client, choose_api

    require_one_of(api, "api", CHOICES)
    with nullcontext(client) if client is not None else Client.from_environment() as connected:
        yield connected, choose_api(connected, api, thing=thing).api
