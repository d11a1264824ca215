"""``release``: check, pack, upload, presign, prove, submit, wait, deploy, ask: resumed from its receipt."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lora_packer.adapter import REQUIRED
from lora_packer.errors import InputError
from lora_packer.hub import HubRepo, repo_in
from lora_packer.inspector.check import BaseSource
from lora_packer.inspector.profiles import DEFAULT_TARGET
from lora_packer.pipeline import (
    DEFAULT_EXPIRY,
    CheckOptions,
    Note,
    Progress,
    adapter_name,
    finished_archive,
    read_files,
    silent,
)
from lora_packer.pipeline.hub_check import confirm_commit
from lora_packer.pipeline.receipt import Receipt
from lora_packer.pipeline.steps import DONE_BEFORE, Steps

if TYPE_CHECKING:
    from boto3.session import Session

    from lora_packer.together import Client, ModelSource

DEFAULT_TIMEOUT = timedelta(minutes=60)


def release(
    adapter: str | Path,
    *,
    model_name: str,
    base_model: str,
    to: str | None = None,
    expires_in: timedelta = DEFAULT_EXPIRY,
    endpoint_url: str | None = None,
    allow_private_endpoint: bool = False,
    description: str | None = None,
    base_config: BaseSource | None = None,
    target: str = DEFAULT_TARGET,
    options: CheckOptions | None = None,
    include_extras: bool = False,
    api: str = "v1",
    direct: bool = False,
    receipt: str | Path | None = None,
    wait: bool = True,
    timeout: timedelta = DEFAULT_TIMEOUT,
    deploy: bool = False,
    hardware: str | None = None,
    ask: str | None = None,
    client: Client | None = None,
    session: Session | None = None,
    note: Note = silent,
    progress: Progress | None = None,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Receipt:
    """Do all of it: check, pack, upload, presign, prove, submit, wait; and write a receipt to resume from.

    A second call with the same receipt does only what is left: nothing is uploaded or submitted twice.

    Args:
        adapter: a folder, a finished archive, or a Hub repository (``hf://org/repo``), which the service fetches
            itself: it is checked by its header, and nothing is packed or uploaded.
        model_name: the new adapter's name at the service.
        base_model: the id under which the service hosts the base model.
        to: ``s3://bucket/prefix/``; for a folder or an archive only.
        expires_in: how long the presigned URL shall live, 100 minutes to 7 days.
        endpoint_url: of an S3-compatible store; default: what the environment says, else AWS.
        allow_private_endpoint: take an endpoint that the internet does not reach, and http, too.
        description: of the adapter, for the service.
        base_config: the base model's config, for the check.
        target: the rule profile of the check.
        options: how to check, instead of ``base_config`` and ``target``.
        include_extras: also pack README and tokenizer files.
        api: the version of the service's API.
        direct: whether to send the folder's files to the service itself, without S3: version 2 of the API only.
        receipt: the receipt's file; default: ``<adapter's name>.receipt.json`` in the working directory. While
            the upload is unfinished its journal is beside it.
        wait: whether to wait until the job ends.
        timeout: how long to wait, for the job and then for the endpoint.
        deploy: whether to create an endpoint for the adapter, which costs money until it is stopped, and wait for it.
        hardware: what to serve it on; default: the cheapest that can be had.
        ask: a first question to the deployed adapter; needs ``deploy``.
        client: of the service; default: from TOGETHER_API_KEY.
        session: of AWS; default: AWS's own chain.
        note: told each step and what it proved.
        progress: told (bytes sent, bytes in all) during the upload.
        sleep: what passes the time between two looks, in seconds.
        now: the wall clock (UTC), against which the URL's life is measured.

    Raises:
        CheckFailedError, InconclusiveError, PackError, PublishError, CredentialsError, ServiceError, JobFailedError,
        WaitTimeoutError, InputError.
    """
    from lora_packer.together import APIS, MINIMUM_LIFE, Client, LocalFiles, ask_ahead, validate_names

    validate_names(model_name, base_model)
    if api not in APIS:
        raise InputError(f"{api!r} is not a version of the API.", hint=f"Choose one of {', '.join(APIS)}.")
    if (deploy and not wait) or (ask is not None and not deploy):
        raise InputError(
            "Only what is deployed can be asked, and only a complete upload can be deployed.",
            hint="Give --ask together with --deploy, and --deploy without --no-wait.",
        )
    repo = repo_in(str(adapter))
    _require_destination(repo, to, direct)
    if direct and (api != "v2" or not Path(adapter).is_dir()):
        raise InputError(
            "Only a folder can be sent directly, and only through version 2 of the API.",
            hint="Give a folder and --api v2, or publish through S3 with --to.",
        )
    checked = options or CheckOptions(base_config, base_model, target)
    name = repo.name if repo else adapter_name(adapter)
    path = Path(receipt) if receipt is not None else Path(f"{name}.receipt.json")
    with ExitStack() as stack:
        service = client if client is not None else stack.enter_context(Client.from_environment())
        asked = {
            "model_name": model_name,
            "base_model": base_model,
            "to": to,
            "description": description,
            "api": api,
            "service": service.base_url,
        } | ({"source": str(repo)} if repo else {"source": "direct"} if direct else {})
        file = Path(adapter)
        files = {} if repo else read_files(file)
        finished = finished_archive(file, crc32=files[file.name].member.crc32) if file.name in files else None
        steps = Steps(file, finished, service, api, note, sleep, repo)
        record = steps.begin(path, asked, files)
        record = steps.check(record, checked, files)
        if record.job_id is not None:
            for step in () if repo or direct else ("pack", "upload", "presign"):
                note(step, DONE_BEFORE)
            note("submit", f"{DONE_BEFORE}: job {record.job_id}")
        else:
            record = steps.adopt(record)
        source: ModelSource | None = None
        if record.job_id is None:
            ask_ahead(APIS[api], service, model_name, base_model, note)
            if repo is not None:
                source = HubRepo(repo.id) if record.adapter.get("commit") else repo
            elif direct:
                source = LocalFiles(tuple((name, file / name) for name in REQUIRED))
                note("submit", f"sending {source} to the service itself")
            else:
                packed = steps.pack(files, include_extras)
                publish = partial(
                    steps.publish, packed, expires_in, endpoint_url, allow_private_endpoint, session, progress
                )
                record, published = publish(record)
                if published.deadline - now() < MINIMUM_LIFE:  # this machine slept in between
                    note("presign", "too little is left of the URL's life by now: minting another")
                    record, published = publish(record)
                source = steps.presigned(published, now())
            record = steps.submit(record, source)
        if not wait:
            return record
        record = steps.wait(record, timeout, source)
        if repo is not None:
            record = confirm_commit(record, repo, note)
        if deploy:
            record = steps.deploy(record, hardware, timeout)
        return steps.ask(record, ask) if ask is not None else record


def _require_destination(repo: HubRepo | None, to: str | None, direct: bool) -> None:
    """Raise InputError where an upload has no destination, or a destination no upload."""
    if direct and (repo is not None or to is not None):
        raise InputError(
            "--direct sends a folder to the service itself: neither --to nor a Hub repo goes with it.",
            hint="Give one of the three.",
        )
    if repo is None and to is None and not direct:
        raise InputError("--to is missing.", hint="Give s3://bucket/prefix/, or rehearse with --sandbox.")
    if repo is not None and to is not None:
        raise InputError(
            f"--to does not go with {repo}: the service fetches it from the Hub itself, and nothing is uploaded.",
            hint="Leave --to out; to go through S3, download the repo and release the folder.",
        )
