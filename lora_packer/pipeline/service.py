"""What a release asks of the service: each step writes what it did into the receipt."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from lora_packer.arguments import require_duration, require_text
from lora_packer.duration import format_duration
from lora_packer.errors import InputError, JobFailedError, PackError, ServiceError
from lora_packer.frozen import frozen
from lora_packer.hub import HubRepo
from lora_packer.pipeline import Note, Progress
from lora_packer.pipeline.notes import DONE_BEFORE
from lora_packer.pipeline.receipt import Receipt, timestamp
from lora_packer.redact import escape, read_token

if TYPE_CHECKING:
    from lora_packer.together import Api, Client, Job, ModelSource, Questions

DEFAULT_TIMEOUT = timedelta(minutes=60)


@frozen
class ServiceOptions:
    """What is asked of the service.

    Attributes:
        model_name: the new adapter's name at the service.
        base_model: the id under which the service hosts the base model.
        api: the version of the service's API; ``auto``: version 2 where the key has a project, else version 1.
        description: of the adapter, for the service.
        wait: whether to wait until the job ends.
        timeout: how long to wait, for the job and then for the endpoint.
        deploy: whether to create an endpoint for the adapter, and wait for it.
        hardware: what to serve it on; None: the cheapest that can be had.
        attach: the endpoint or deployment of its base model to attach it to, instead of an endpoint of its own.
        ask: a first question to the deployed adapter.
        questions: what it is asked, how, and how its answers are judged; instead of ``ask``.
        skip_existing: whether a name that is taken is fine where its upload is complete and of the same bytes.

    Raises InputError where they do not go together, or a name cannot be one.
    """

    model_name: str
    base_model: str
    api: str = "auto"
    description: str | None = None
    wait: bool = True
    timeout: timedelta = DEFAULT_TIMEOUT
    deploy: bool = False
    hardware: str | None = None
    attach: str | None = None
    ask: str | None = None
    questions: Questions | None = None
    skip_existing: bool = False

    def __post_init__(self) -> None:
        from lora_packer.together import CHOICES, validate_names

        require_text(self.model_name, "model_name")
        require_text(self.base_model, "base_model")
        require_duration(self.timeout, "timeout")
        validate_names(self.model_name, self.base_model)
        if self.api not in CHOICES:
            raise InputError(f"{self.api!r} is not a version of the API.", hint=f"Choose one of {', '.join(CHOICES)}.")
        if (self.is_served and not self.wait) or (self.asked is not None and not self.is_served):
            raise InputError(
                "Only what is deployed can be asked, and only a complete upload can be deployed.",
                hint="Give --ask and what else asks together with --deploy or --attach, and these without --no-wait.",
            )
        if self.attach is not None and (self.deploy or self.hardware is not None):
            raise InputError(
                "An adapter that is attached runs on what runs already.",
                hint="Give --attach without --deploy and --hardware.",
            )

    @property
    def is_served(self) -> bool:
        """Whether it shall be served once it is there, by an endpoint of its own or by one that is."""
        return self.deploy or self.attach is not None

    @property
    def asked(self) -> Questions | None:
        """What the deployed adapter is asked; None is nothing. Raises InputError for an empty question."""
        from lora_packer.together import Prompt, Questions

        return Questions((Prompt(self.ask),)) if self.questions is None and self.ask is not None else self.questions


@frozen
class Run:
    """What goes along from step to step.

    Attributes:
        client, api: the connection to the service, and the version of its API.
        note: told each step and what it proved.
        progress: told (bytes sent, bytes in all) during the upload.
        sleep: what passes the time between two looks, in seconds.
        now: the wall clock (UTC), against which the URL's life is measured.
    """

    client: Client
    api: Api
    note: Note
    progress: Progress | None
    sleep: Callable[[float], None]
    now: Callable[[], datetime]


def adopt(run: Run, record: Receipt, address: str | None) -> Receipt:
    """Where an earlier run was cut off while it submitted: find its job instead of submitting again.

    ``address`` is what the service was told to fetch, without a query; None where it was told none. Raises
    ServiceError.
    """
    from lora_packer.together import Sent

    submission = record.submission or {}
    if submission.get("state") != "sending":
        return record
    job = run.api.find(run.client, record.asked_model, Sent(address, submission.get("at")))
    if job is None:
        run.note("submit", "the earlier run's request never arrived")
        return record.with_(submission=None)
    run.note("submit", f"the earlier run's request arrived: job {job.id}")
    return record.with_(submission=_submitted(job))


def submit(run: Run, record: Receipt, source: ModelSource) -> Receipt:
    """Submit the job once. The receipt says so before the request goes out, so that a kill cannot double it.

    Raises ServiceError, and PackError where files that are sent are not those that were checked.
    """
    from lora_packer.together import Submission

    token = read_token(os.environ, "HF_TOKEN") if isinstance(source, HubRepo) else None
    description = record.release.get("description")
    submission = Submission(record.asked_model, source, record.base_model, description, token)
    record = record.with_(submission={"state": "sending", "at": timestamp()}, job=None)
    try:
        job = run.api.submit(run.client, submission)
    except (ServiceError, PackError) as error:
        if not getattr(error, "in_doubt", False):
            # It was refused, so there is no job. Else there may be one: the next run looks for it.
            record.with_(submission=None)
        raise
    run.note("submit", f"job {job.id} for {job.model_name or record.asked_model}")
    return record.with_(submission=_submitted(job))


def take_existing(run: Run, record: Receipt, job: Job, sentence: str) -> Receipt:
    """Take a complete upload of the same bytes for what was to be submitted."""
    run.note("submit", sentence)
    submission = {**_submitted(job), "skipped": True, "reason": sentence}
    return record.with_(submission=submission, job={"id": job.id, "status": job.status, "at": timestamp()})


def _submitted(job: Job) -> dict[str, Any]:
    return {"state": "submitted", "job_id": job.id, "model_name": job.model_name, "at": timestamp()}


def require_ours(run: Run, record: Receipt, address: str | None, job: Job | None = None) -> None:
    """Ask the service whether a receipt's job is of this release, as far as it tells: by its model's name and by what
    it fetched (``address``, without a query).

    ``job`` is what was seen of it; None: it is looked at. Raises ServiceError.
    """
    from lora_packer.together import Sent

    assert record.job_id is not None
    job = job or run.api.job(run.client, record.job_id)
    asked, name = record.asked_model, run.api.named(run.client, job)
    other = ""
    if name not in (None, asked):
        other = f"of the model '{escape(str(name), 80)}', and not of '{asked}'"
    elif isinstance(address, str) and job.source and not Sent(address, None).may_be(job.source, None):
        other = f"of {escape(job.source, 160)}, and not of {escape(address, 160)}"
    if other:
        raise ServiceError(
            f"The job {escape(job.id, 60)} that the receipt names is {other}.",
            hint="The receipt is not of this release: choose another file with --receipt.",
        )


def wait(
    run: Run, record: Receipt, timeout: timedelta, source: ModelSource | None, ours: Callable[[Job], None]
) -> Receipt:
    """Wait until the job ends; ``source`` is what was submitted, which is tried where the job stands still.

    The service is asked, whatever the receipt says; ``ours`` raises where what it tells is of another release. Raises
    JobFailedError, WaitTimeoutError, ServiceError.
    """
    from lora_packer.together import StatusUpdate, news, wait_for_job, why_it_stands_still

    assert record.job_id is not None
    heard: set[StatusUpdate] = set()

    def on_change(job: Job) -> None:
        if record.is_complete and job.is_complete:
            run.note("wait", f"{DONE_BEFORE}: {job.status}")
            return
        said = news(job, heard)
        run.note("wait", f"{job.status}{': ' if said else ''}{said}")

    def on_stale(job: Job, still: timedelta) -> None:
        why = why_it_stands_still(source, (record.url or {}).get("deadline"))
        run.note("wait", f"{job.status} for {format_duration(still)}: {why}")

    try:
        job = wait_for_job(
            run.api,
            run.client,
            record.job_id,
            timeout=timeout,
            on_change=on_change,
            on_trouble=lambda error: run.note("wait", f"{error.message} Looking again."),
            on_stale=on_stale,
            sleep=run.sleep,
        )
    except JobFailedError:
        # The next run submits anew; this job stays in the receipt.
        record.with_(
            submission={**(record.submission or {}), "state": "failed", "job_id": None},
            job={"id": record.job_id, "status": "Failed", "at": timestamp()},
        )
        raise
    ours(job)
    if record.is_complete and (record.job or {}).get("id") == job.id:
        return record
    submission = record.submission or {}
    named = {**submission, "model_name": submission.get("model_name") or job.model_name}
    return record.with_(job={"id": job.id, "status": job.status, "at": timestamp()}, submission=named)


def deploy(run: Run, record: Receipt, hardware: str | None, timeout: timedelta) -> Receipt:
    """Create the endpoint, unless there is one, and wait until it serves. Raises ServiceError, WaitTimeoutError."""
    from lora_packer.together import Wanted, ensure_endpoint, serve

    wanted = Wanted(hardware=hardware)
    endpoint, created = ensure_endpoint(
        run.api, run.client, record.model_name, wanted, tell=lambda price: run.note("deploy", price)
    )
    record = record.with_(endpoint={**endpoint.to_dict(), "at": timestamp()})
    run.note("deploy", f"endpoint {endpoint.id} {'created' if created else 'is there already'}; it {endpoint.cost}")
    endpoint = serve(
        run.api,
        run.client,
        endpoint,
        timeout=timeout,
        on_change=lambda seen: run.note("deploy", f"{seen.state}{': ' if seen.reason else ''}{seen.reason}"),
        on_trouble=lambda error: run.note("deploy", f"{error.message} Looking again."),
        sleep=run.sleep,
    )
    return record.with_(endpoint={**endpoint.to_dict(), "at": timestamp()})


def attach(run: Run, record: Receipt, where: str, timeout: timedelta) -> Receipt:
    """Attach the adapter to an endpoint or a deployment of its base model, unless it is, and wait until it is valid.

    Raises ServiceError, WaitTimeoutError, InputError.
    """
    from lora_packer.together import Waiting

    model = record.model_name
    waiting = Waiting(
        timeout,
        lambda told: run.note("attach", told),
        lambda error: run.note("attach", f"{error.message} Looking again."),
        sleep=run.sleep,
    )
    endpoint = run.api.attach(run.client, model, where, waiting=waiting, tell=lambda told: run.note("attach", told))
    run.note("attach", f"{model} is attached to {endpoint.id}")
    return record.with_(endpoint={**endpoint.to_dict(), "attached": model, "at": timestamp()})
