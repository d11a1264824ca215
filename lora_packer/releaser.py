"""``release``: check, pack, upload, presign, prove, submit, wait, deploy, ask: resumed from its receipt."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_packer.adapter import REQUIRED
from lora_packer.duration import format_duration
from lora_packer.errors import InputError, JobFailedError, ServiceError
from lora_packer.inspector.check import BaseSource
from lora_packer.inspector.profiles import DEFAULT_TARGET
from lora_packer.packager import Archive, Member
from lora_packer.packager import pack as write_archive
from lora_packer.pipeline import (
    DEFAULT_EXPIRY,
    CheckOptions,
    Note,
    Progress,
    adapter_name,
    file_sha256,
    finished_archive,
    note_packed,
    note_published,
    run_check,
    silent,
    with_slack,
)
from lora_packer.receipt import Receipt, load_receipt, timestamp

if TYPE_CHECKING:
    from boto3.session import Session

    from lora_packer.publisher import Published
    from lora_packer.together import Client, Job

DEFAULT_TIMEOUT = timedelta(minutes=60)
_DONE_BEFORE = "done in an earlier run"


def release(
    adapter: str | Path,
    *,
    model_name: str,
    base_model: str,
    to: str,
    expires_in: timedelta = DEFAULT_EXPIRY,
    endpoint_url: str | None = None,
    allow_private_endpoint: bool = False,
    description: str | None = None,
    base_config: BaseSource | None = None,
    target: str = DEFAULT_TARGET,
    options: CheckOptions | None = None,
    include_extras: bool = False,
    api: str = "v1",
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
) -> Receipt:
    """Do all of it: check, pack, upload, presign, prove, submit, wait; and write a receipt to resume from.

    A second call with the same receipt does only what is left: nothing is uploaded or submitted twice.

    Args:
        adapter: a folder or a finished archive.
        model_name: the new adapter's name at the service.
        base_model: the id under which the service hosts the base model.
        to: ``s3://bucket/prefix/``.
        expires_in: how long the presigned URL shall live, 100 minutes to 7 days.
        endpoint_url: of an S3-compatible store; default: what the environment says, else AWS.
        allow_private_endpoint: take an endpoint that the internet does not reach, and http, too.
        description: of the adapter, for the service.
        base_config: the base model's config, for the check.
        target: the rule profile of the check.
        options: how to check, instead of ``base_config`` and ``target``.
        include_extras: also pack README and tokenizer files.
        api: the version of the service's API.
        receipt: the receipt's file; default: ``<adapter's name>.receipt.json`` in the working directory. The archive
            is written beside it, and while the upload is unfinished its journal.
        wait: whether to wait until the job ends.
        timeout: how long to wait, for the job and then for the endpoint.
        deploy: whether to create an endpoint for the adapter, which costs money until it is stopped, and wait for it.
        hardware: what to serve it on; default: the cheapest that can be had.
        ask: a first question to the deployed adapter; needs ``deploy``.
        client: of the service; default: from TOGETHER_API_KEY.
        session: of AWS; default: AWS's own chain.
        note: told each step and what it proved.
        progress: told (bytes sent, bytes in all) during the upload.

    Raises:
        CheckFailedError, InconclusiveError, PackError, PublishError, CredentialsError, ServiceError, JobFailedError,
        WaitTimeoutError, InputError.
    """
    from lora_packer.together import APIS, Client, ask_ahead, validate_names

    validate_names(model_name, base_model)
    if api not in APIS:
        raise InputError(f"{api!r} is not a version of the API.", hint=f"Choose one of {', '.join(APIS)}.")
    if (deploy and not wait) or (ask is not None and not deploy):
        raise InputError(
            "Only what is deployed can be asked, and only a complete upload can be deployed.",
            hint="Give --ask together with --deploy, and --deploy without --no-wait.",
        )
    checked = options or CheckOptions(base_config, base_model, target)
    path = Path(receipt) if receipt is not None else Path(f"{adapter_name(adapter)}.receipt.json")
    with nullcontext(client) if client is not None else Client.from_environment() as service:
        asked = {
            "model_name": model_name,
            "base_model": base_model,
            "to": to,
            "description": description,
            "api": api,
            "service": service.base_url,
        }
        steps = _Steps(Path(adapter), service, api, note)
        record = steps.begin(path, asked)
        record = steps.check(record, checked)
        if record.job_id is not None:
            for step in ("pack", "upload", "presign"):
                note(step, _DONE_BEFORE)
            note("submit", f"{_DONE_BEFORE}: job {record.job_id}")
        else:
            record = steps.adopt(record)
        if record.job_id is None:
            ask_ahead(APIS[api], service, model_name, base_model, note)
            record, archive = steps.pack(record, include_extras)
            record, published = steps.publish(
                record, archive, expires_in, endpoint_url, allow_private_endpoint, session, progress
            )
            record = steps.submit(record, published)
        if not wait:
            return record
        record = steps.wait(record, timeout)
        if deploy:
            record = steps.deploy(record, hardware, timeout)
        return steps.ask(record, ask) if ask is not None else record


@dataclass(frozen=True, slots=True)
class _Steps:
    """The steps of one release; each returns the receipt as it wrote it."""

    adapter: Path
    client: Client
    api: str
    note: Note

    def begin(self, path: Path, asked: dict[str, Any]) -> Receipt:
        """Return the receipt to resume from, or a new one. Raises InputError where it is of another release."""
        adapter = {"source": str(self.adapter), "sha256": self._digests()}
        fresh = Receipt(asked, adapter, path=path)
        found = load_receipt(path)
        if found is None:
            return fresh
        different = [name for name in asked if found.release.get(name) != asked[name]]
        if found.adapter.get("sha256") != adapter["sha256"]:
            different.append("the adapter's files")
        if not different:
            return found
        if found.submission is None:
            return fresh
        raise InputError(
            f"The receipt {str(path)!r} is of another release: {', '.join(different)} differ.",
            hint="A model name can be used once: choose a new --model-name, and another file with --receipt.",
        )

    def _digests(self) -> dict[str, str]:
        """The SHA-256 of what will be packed, by name; a file that is missing is left to the check."""
        if not self.adapter.is_dir():
            return {self.adapter.name: file_sha256(self.adapter)} if self.adapter.is_file() else {}
        files = (self.adapter / name for name in REQUIRED)
        return {file.name: file_sha256(file) for file in files if file.is_file()}

    def check(self, record: Receipt, options: CheckOptions) -> Receipt:
        """Check the adapter, unless the receipt says that these bytes passed with these options."""
        asked = {"target": options.target, "base_config": str(options.base_config) if options.base_config else None}
        before = record.check
        if before is not None and {name: before.get(name) for name in asked} == asked and not options.skip:
            self.note("check", _DONE_BEFORE)
            return record
        report = run_check(self.adapter, options, self.note)
        if report is None:
            return record
        summary = {"status": report.status, **asked, **report.summary, "at": timestamp()}
        return record.with_(check=summary)

    def adopt(self, record: Receipt) -> Receipt:
        """Where an earlier run was cut off while it submitted: find its job instead of submitting again."""
        from lora_packer.together import APIS

        if (record.submission or {}).get("state") != "sending":
            return record
        job = APIS[self.api].find(self.client, record.release["model_name"])
        if job is None:
            self.note("submit", "the earlier run's request never arrived")
            return record.with_(submission=None)
        self.note("submit", f"the earlier run's request arrived: job {job.id}")
        return record.with_(submission=self._submitted(job))

    def pack(self, record: Receipt, include_extras: bool) -> tuple[Receipt, Archive]:
        """Pack beside the receipt, unless the archive is there already, byte for byte."""
        if not self.adapter.is_dir():
            archive = finished_archive(self.adapter)
            self.note("pack", f"{self.adapter.name} is an archive already")
            return record.with_(archive=archive.to_dict()), archive
        earlier = _archive_from(record)
        if earlier is not None:
            self.note("pack", f"{_DONE_BEFORE}: {earlier.path.name}, sha256 {earlier.sha256[:16]}...")
            return record, earlier
        assert record.path is not None
        output = record.path.parent / f"{adapter_name(self.adapter)}.zip"
        archive = write_archive(self.adapter, output, include_extras=include_extras)
        note_packed(archive, self.note)
        return record.with_(archive=archive.to_dict()), archive

    def publish(
        self,
        record: Receipt,
        archive: Archive,
        expires_in: timedelta,
        endpoint_url: str | None,
        allow_private_endpoint: bool,
        session: Session | None,
        progress: Progress | None,
    ) -> tuple[Receipt, Published]:
        """Upload (nothing is sent that is there already), mint a URL and prove it."""
        from lora_packer.publisher import publish as publish_archive

        published = publish_archive(
            archive.path,
            archive.sha256,
            record.release["to"],
            expires_in=with_slack(expires_in),
            endpoint_url=endpoint_url,
            allow_private_endpoint=allow_private_endpoint,
            journal=record.path.with_suffix(".upload.json") if record.path else None,
            session=session,
            note=lambda text: self.note("note", text),
            progress=progress,
        )
        note_published(published, self.note)
        summary = published.to_dict()
        return record.with_(object=summary.pop("object"), url=summary), published

    def submit(self, record: Receipt, published: Published) -> Receipt:
        """Submit the job once. The receipt says so before the request goes out, so that a kill cannot double it."""
        from lora_packer.together import APIS, Submission, parse_presigned, require_life

        url = parse_presigned(published.url.reveal(), allow_loopback=self.client.is_loopback)
        require_life(url, now=published.proof.checked_at)
        asked = record.release
        submission = Submission(asked["model_name"], url, asked["base_model"], asked.get("description"))
        record = record.with_(submission={"state": "sending", "at": timestamp()}, job=None)
        try:
            job = APIS[self.api].submit(self.client, submission)
        except ServiceError as error:
            if error.status is not None:
                # It was answered, so there is no job. Without an answer there may be one: the next run looks for it.
                record.with_(submission=None)
            raise
        self.note("submit", f"job {job.id} for {job.model_name or asked['model_name']}")
        return record.with_(submission=self._submitted(job))

    def _submitted(self, job: Job) -> dict[str, Any]:
        return {"state": "submitted", "job_id": job.id, "model_name": job.model_name, "at": timestamp()}

    def wait(self, record: Receipt, timeout: timedelta) -> Receipt:
        """Wait until the job ends. Raises JobFailedError, WaitTimeoutError, ServiceError."""
        from lora_packer.together import APIS, why_it_stands_still

        if record.is_complete:
            self.note("wait", f"{_DONE_BEFORE}: Complete")
            return record
        assert record.job_id is not None
        told = 0

        def on_change(job: Job) -> None:
            nonlocal told
            said = "; ".join(update.message for update in job.updates[told:] if update.message)
            told = len(job.updates)
            self.note("wait", f"{job.status}{': ' if said else ''}{said}")

        def on_trouble(error: ServiceError) -> None:
            self.note("wait", f"{error.message} Looking again.")

        def on_stale(job: Job, still: timedelta) -> None:
            why = why_it_stands_still(record.url, datetime.now(UTC))
            self.note("wait", f"{job.status} for {format_duration(still)}: {why}")

        try:
            job = APIS[self.api].wait(
                self.client,
                record.job_id,
                timeout=timeout,
                on_change=on_change,
                on_trouble=on_trouble,
                on_stale=on_stale,
            )
        except JobFailedError:
            # The next run submits anew; this job stays in the receipt.
            record.with_(
                submission={**(record.submission or {}), "state": "failed", "job_id": None},
                job={"id": record.job_id, "status": "Failed", "at": timestamp()},
            )
            raise
        submission = record.submission or {}
        named = {**submission, "model_name": submission.get("model_name") or job.model_name}
        return record.with_(job={"id": job.id, "status": job.status, "at": timestamp()}, submission=named)

    def deploy(self, record: Receipt, hardware: str | None, timeout: timedelta) -> Receipt:
        """Create the endpoint, unless there is one, and wait until it serves. Raises ServiceError, WaitTimeoutError."""
        from lora_packer.together import APIS, ensure_endpoint, serve

        api = APIS[self.api]
        model = _model_name(record)
        endpoint, created = ensure_endpoint(api, self.client, model, hardware_id=hardware)
        record = record.with_(endpoint={**endpoint.to_dict(), "at": timestamp()})
        self.note(
            "deploy", f"endpoint {endpoint.id} {'created' if created else 'is there already'}; it {endpoint.cost}"
        )
        endpoint = serve(
            api,
            self.client,
            endpoint,
            timeout=timeout,
            on_change=lambda seen: self.note("deploy", f"{seen.state}{': ' if seen.reason else ''}{seen.reason}"),
            on_trouble=lambda error: self.note("deploy", f"{error.message} Looking again."),
        )
        return record.with_(endpoint={**endpoint.to_dict(), "at": timestamp()})

    def ask(self, record: Receipt, prompt: str) -> Receipt:
        """Ask the deployed adapter, unless the receipt has the answer. Raises ServiceError."""
        from lora_packer.together import APIS

        if (record.answer or {}).get("prompt") == prompt:
            self.note("ask", _DONE_BEFORE)
            return record
        answer = APIS[self.api].ask(self.client, (record.endpoint or {})["name"], prompt)
        self.note("ask", f"{answer.model} answered")
        return record.with_(answer={"prompt": prompt, **answer.to_dict(), "at": timestamp()})


def _model_name(record: Receipt) -> str:
    """The name that the service gave the adapter."""
    return (record.submission or {}).get("model_name") or str(record.release["model_name"])


def _archive_from(record: Receipt) -> Archive | None:
    """The archive that the receipt names, where it is still there, byte for byte."""
    said = record.archive
    if said is None:
        return None
    try:
        path = Path(said["path"])
        members = tuple(Member(**member) for member in said["members"])
        if not path.is_file() or path.stat().st_size != said["size"] or file_sha256(path) != said["sha256"]:
            return None
        return Archive(path, said["format"], said["size"], said["sha256"], members, ())
    except (KeyError, TypeError, ValueError, OSError):
        return None
