"""``release``: check, pack, upload, presign, prove, submit, wait, deploy, ask: resumed from its receipt."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_packer.adapter.elsewhere import is_stored_archive
from lora_packer.arguments import BaseSource, require_path
from lora_packer.pipeline import Note, Progress, service, silent
from lora_packer.pipeline.ask import ask
from lora_packer.pipeline.check import CheckOptions
from lora_packer.pipeline.existing import require_base, require_same
from lora_packer.pipeline.local import NO_FILES, Files
from lora_packer.pipeline.notes import DONE_BEFORE
from lora_packer.pipeline.pack import ArchiveOptions
from lora_packer.pipeline.place import open_place
from lora_packer.pipeline.publish import DEFAULT_EXPIRY, StoreOptions
from lora_packer.pipeline.receipt import Receipt, default_receipt, held, load_receipt, resume
from lora_packer.pipeline.routes import Route, choose
from lora_packer.pipeline.service import DEFAULT_TIMEOUT, Run, ServiceOptions
from lora_packer.targets import DEFAULT_TARGET

if TYPE_CHECKING:
    from boto3.session import Session

    from lora_packer.together import Client, Job, Questions


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
    api: str = "auto",
    direct: bool = False,
    receipt: str | Path | None = None,
    wait: bool = True,
    timeout: timedelta = DEFAULT_TIMEOUT,
    deploy: bool = False,
    hardware: str | None = None,
    attach: str | None = None,
    ask: str | None = None,
    questions: Questions | None = None,
    skip_existing: bool = False,
    client: Client | None = None,
    session: Session | None = None,
    note: Note = silent,
    progress: Progress | None = None,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    began: Callable[[Path], None] = lambda _: None,
) -> Receipt:
    """Do all of it: check, pack, upload, presign, prove, submit, wait; and write a receipt to resume from.

    A second call with the same receipt does only what is left: nothing is uploaded or submitted twice.

    Args:
        adapter: a folder or a finished archive. A Hub repository (``hf://org/repo``) and a finished archive in S3
            (``s3://bucket/key.zip``) are checked by their header and fetched by the service itself: nothing is packed
            or uploaded. What is below another prefix of S3, or an archive behind an ``https://`` URL, is brought here.
        model_name: the new adapter's name at the service.
        base_model: the id under which the service hosts the base model.
        to: ``s3://bucket/prefix/``; for a folder or an archive only.
        expires_in: how long the presigned URL shall live, 100 minutes to 7 days.
        endpoint_url: of an S3-compatible store; default: what the environment says, else AWS.
        allow_private_endpoint: take an endpoint that the internet does not reach, and http, too: for a service of your
            own that is in the same network.
        description: of the adapter, for the service.
        base_config: the base model's config, for the check.
        target: the rule profile of the check.
        options: how to check, instead of ``base_config`` and ``target``.
        include_extras: also pack README and tokenizer files.
        api: the version of the service's API: ``v1``, ``v2``, or ``auto`` for that of the receipt, else version 2
            where the key has a project, else version 1.
        direct: whether to send the folder's files to the service itself, without S3: version 2 of the API only.
        receipt: the receipt's file; default: ``<adapter's name>.<model_name>.receipt.json`` in the working directory,
            or ``<model_name>.receipt.json`` where the two are the same. While
            the upload is unfinished its journal is beside it.
        wait: whether to wait until the job ends.
        timeout: how long to wait, for the job and then for the endpoint.
        deploy: whether to create an endpoint for the adapter, which costs money until it is stopped, and wait for it.
        hardware: what to serve it on; default: the cheapest that can be had.
        attach: the endpoint or deployment of its base model to attach it to, instead of ``deploy``.
        ask: a first question to the adapter; needs ``deploy`` or ``attach``.
        questions: what it is asked besides, how, and how its answers are judged; instead of ``ask``.
        skip_existing: take a model of this name for done where its upload is complete and provably of the same bytes;
            anything else of that name is an error.
        client: of the service; default: from TOGETHER_API_KEY.
        session: of AWS; default: AWS's own chain.
        note: told each step and what it proved.
        progress: told (bytes sent, bytes in all) during the upload.
        sleep: what passes the time between two looks, in seconds.
        now: the wall clock (UTC), against which the URL's life is measured.
        began: told where the receipt is, before anything is done.

    Raises:
        CheckFailedError, InconclusiveError, PackError, PublishError, CredentialsError, ServiceError, JobFailedError,
        WaitTimeoutError, InputError.
    """
    from lora_packer.together import Client, choose_api

    require_path(adapter, "adapter")
    if receipt is not None:
        require_path(receipt, "receipt")
    wanted = ServiceOptions(
        model_name, base_model, api, description, wait, timeout, deploy, hardware, attach, ask, questions, skip_existing
    )
    store, place = None, str(adapter) if to is None and is_stored_archive(adapter) else to
    if place is not None:
        store = StoreOptions(place, expires_in, endpoint_url, allow_private_endpoint, session=session)
    checks = options or CheckOptions(base_config, base_model, target)
    archive = ArchiveOptions(include_extras, allow_credentials=checks.allow_credentials)
    with open_place(adapter, checks, note, extras=include_extras) as brought:
        route = choose(brought, archive, store, direct=direct, api=api)
        path = Path(receipt) if receipt is not None else default_receipt(route.name, model_name)
        with nullcontext(client) if client is not None else Client.from_environment() as connected, held(path):
            began(path)
            found = load_receipt(path)
            choice = choose_api(connected, api, earlier=found.release.get("api") if found else None)
            note("api", str(choice))
            run = Run(connected, choice.api, note, progress, sleep, now)
            return _release(run, route, found, path, to, wanted, checks)


def _release(
    run: Run,
    route: Route,
    found: Receipt | None,
    path: Path,
    to: str | None,
    wanted: ServiceOptions,
    checks: CheckOptions,
) -> Receipt:
    """The order of it all; every step writes what it did into the receipt."""
    route.require_reachable(run)
    judged = found is None or found.submission is None
    existing = _judge(run, route, wanted) if judged else None
    files = route.read() if found else NO_FILES
    fresh = Receipt(_asked(run, route, to, wanted), route.adapter(files), path=path)
    record = resume(found, fresh, is_of_these_files=found is not None and route.is_of(found, files))
    resumed = record.job_id is not None
    if not resumed:
        record = service.adopt(run, record, route.address(record))
    if record.job_id is None and not judged:
        existing = _judge(run, route, wanted)
    record, files = route.check(run, record, files, checks)
    source = route.at_hand
    if resumed:
        for step in route.DONE:
            run.note(step, DONE_BEFORE)
        run.note("submit", f"{DONE_BEFORE}: job {record.job_id}")
    if existing is not None:
        record = _take(run, route, record, files, existing, wanted)
    elif record.job_id is None:
        record, source = route.hand_over(run, record, files)
        record = service.submit(run, record, source)

    def ours(job: Job | None = None) -> None:
        if resumed:
            service.require_ours(run, record, route.address(record), job)

    if not wanted.wait:
        ours()
        return record
    if existing is None:
        record = route.confirm(run, service.wait(run, record, wanted.timeout, source, ours))
    if wanted.deploy:
        record = service.deploy(run, record, wanted.hardware, wanted.timeout)
    if wanted.attach is not None:
        record = service.attach(run, record, wanted.attach, wanted.timeout)
    return ask(run, record, asked) if (asked := wanted.asked) is not None else record


def _judge(run: Run, route: Route, wanted: ServiceOptions) -> Job | None:
    """Judge key, name, base model and destination before the weights are read.

    Return the job of what exists under this name, where it may stand for this adapter. Raises ServiceError,
    PublishError.
    """
    from lora_packer.together import ask_ahead

    existing = ask_ahead(
        run.api, run.client, wanted.model_name, wanted.base_model, run.note, skip_existing=wanted.skip_existing
    )
    if existing is not None:
        route.told(existing, wanted.model_name)
        require_base(run.api, run.client, existing, wanted.model_name, wanted.base_model)
    route.require_place(run)
    return existing


def _take(run: Run, route: Route, record: Receipt, files: Files, job: Job, wanted: ServiceOptions) -> Receipt:
    """Take what exists under the name for this adapter. Raises ServiceError where it has not the same bytes."""
    name = wanted.model_name
    record, ours = route.content(record, files)
    sentence = require_same(job, name, route.told(job, name), ours)
    unknown = require_base(run.api, run.client, job, name, wanted.base_model)
    return service.take_existing(run, record, job, f"{sentence}{unknown}")


def _asked(run: Run, route: Route, to: str | None, wanted: ServiceOptions) -> dict[str, Any]:
    """What a receipt holds a later run to."""
    return {
        "model_name": wanted.model_name,
        "base_model": wanted.base_model,
        "to": to,
        "description": wanted.description,
        "api": run.api.NAME,
        "service": run.client.base_url,
        **route.asked,
    }
