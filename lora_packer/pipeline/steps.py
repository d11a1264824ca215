"""The steps of ``release``, each of which writes what it did into the receipt."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_packer.duration import format_duration
from lora_packer.errors import InputError, JobFailedError, ServiceError
from lora_packer.hub import HubRepo
from lora_packer.packager import CheckedFile
from lora_packer.packager.plan import changed_since_checked
from lora_packer.pipeline import (
    CheckOptions,
    Note,
    Packed,
    Progress,
    adapter_name,
    note_planned,
    note_published,
    plan_folder,
    run_check,
    with_slack,
)
from lora_packer.pipeline.hub_check import record_check
from lora_packer.pipeline.receipt import Receipt, load_receipt, timestamp
from lora_packer.redact import PresignedUrl, read_token

if TYPE_CHECKING:
    from boto3.session import Session

    from lora_packer.publisher import Published
    from lora_packer.together import Client, Job, ModelSource

DONE_BEFORE = "done in an earlier run"


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of one release; each returns the receipt as it wrote it."""

    adapter: Path
    finished: Packed | None
    client: Client
    api: str
    note: Note
    sleep: Callable[[float], None]
    repo: HubRepo | None

    def begin(self, path: Path, asked: dict[str, Any], files: Mapping[str, CheckedFile]) -> Receipt:
        """Return the receipt to resume from, or a new one, for these files.

        Raises InputError where it is of another release.
        """
        digests = {name: file.member.sha256 for name, file in files.items()}
        adapter = {"source": str(self.repo or self.adapter), "sha256": digests}
        fresh = Receipt(asked, adapter, path=path)
        found = load_receipt(path)
        if found is None:
            return fresh
        different = [name for name in asked if found.release.get(name) != asked[name]]
        if self.repo is None and found.adapter.get("sha256") != adapter["sha256"]:
            different.append("the adapter's files")
        if not different:
            return found
        if found.submission is None:
            return fresh
        raise InputError(
            f"The receipt {str(path)!r} is of another release: {', '.join(different)} differ.",
            hint="A model name can be used once: choose a new --model-name, and another file with --receipt.",
        )

    def check(self, record: Receipt, options: CheckOptions, files: Mapping[str, CheckedFile]) -> Receipt:
        """Check the adapter, unless the receipt says that these bytes passed with these options.

        Raises PackError where what was checked are not these files.
        """
        asked = {"target": options.target, "base_config": str(options.base_config) if options.base_config else None}
        before = record.check
        if self.repo is not None:
            return self._check_repo(record, self.repo, options)
        if before is not None and {name: before.get(name) for name in asked} == asked and not options.skip:
            self.note("check", DONE_BEFORE)
            return record
        report = run_check(self.adapter, options, self.note, sha256=False)
        if report is None:
            return record
        for name, checked in report.checked.items():
            if name not in files or not files[name].is_same_as(checked):
                raise changed_since_checked(name)
        return record.with_(check={"status": report.status, **asked, **report.summary, "at": timestamp()})

    def _check_repo(self, record: Receipt, repo: HubRepo, options: CheckOptions) -> Receipt:
        """Check the repository, unless a job may have fetched it: then the earlier check, and its commit, stand."""
        if (record.submission or {}).get("state") not in ("sending", "submitted"):
            return record_check(record, repo, options, self.note)
        self.note("check", DONE_BEFORE if record.check else "skipped in an earlier run")
        return record

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

    def pack(self, files: Mapping[str, CheckedFile], include_extras: bool) -> Packed:
        """Plan the archive of the files that the receipt names; no file of it is written. Raises PackError."""
        packed = self.finished or plan_folder(
            self.adapter, adapter_name(self.adapter), files, include_extras=include_extras
        )
        note_planned(packed, self.note)
        return packed

    def publish(
        self,
        packed: Packed,
        expires_in: timedelta,
        endpoint_url: str | None,
        allow_private_endpoint: bool,
        session: Session | None,
        progress: Progress | None,
        record: Receipt,
    ) -> tuple[Receipt, Published]:
        """Upload (nothing is sent that is there already), mint a URL and prove it."""
        from lora_packer.publisher import publish as publish_archive

        published = publish_archive(
            packed.content,
            packed.name,
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
        stored = summary.pop("object")
        return record.with_(archive=packed.to_dict(stored["sha256"]), object=stored, url=summary), published

    def presigned(self, published: Published, now: datetime) -> PresignedUrl:
        """Return the URL, which lives long enough at ``now``. Raises PublishError, InputError."""
        from lora_packer.together import parse_presigned, require_life

        url = parse_presigned(published.url.reveal(), allow_loopback=self.client.is_loopback)
        require_life(url, now=now)
        return url

    def submit(self, record: Receipt, source: ModelSource) -> Receipt:
        """Submit the job once. The receipt says so before the request goes out, so that a kill cannot double it."""
        from lora_packer.together import APIS, Submission

        asked = record.release
        token = read_token(os.environ, "HF_TOKEN") if self.repo else None
        submission = Submission(asked["model_name"], source, asked["base_model"], asked.get("description"), token)
        record = record.with_(submission={"state": "sending", "at": timestamp()}, job=None)
        try:
            job = APIS[self.api].submit(self.client, submission)
        except ServiceError as error:
            if not error.in_doubt:
                # It was refused, so there is no job. Else there may be one: the next run looks for it.
                record.with_(submission=None)
            raise
        self.note("submit", f"job {job.id} for {job.model_name or asked['model_name']}")
        return record.with_(submission=self._submitted(job))

    def _submitted(self, job: Job) -> dict[str, Any]:
        return {"state": "submitted", "job_id": job.id, "model_name": job.model_name, "at": timestamp()}

    def wait(self, record: Receipt, timeout: timedelta, source: ModelSource | None = None) -> Receipt:
        """Wait until the job ends; ``source`` is what this run submitted, which is tried where the job stands still.

        Raises JobFailedError, WaitTimeoutError, ServiceError.
        """
        from lora_packer.together import APIS, StatusUpdate, news, wait_for_job, why_it_stands_still

        if record.is_complete:
            self.note("wait", f"{DONE_BEFORE}: Complete")
            return record
        assert record.job_id is not None
        heard: set[StatusUpdate] = set()

        def on_change(job: Job) -> None:
            said = news(job, heard)
            self.note("wait", f"{job.status}{': ' if said else ''}{said}")

        def on_trouble(error: ServiceError) -> None:
            self.note("wait", f"{error.message} Looking again.")

        def on_stale(job: Job, still: timedelta) -> None:
            why = why_it_stands_still(source or self.repo, record.url)
            self.note("wait", f"{job.status} for {format_duration(still)}: {why}")

        try:
            job = wait_for_job(
                APIS[self.api],
                self.client,
                record.job_id,
                timeout=timeout,
                on_change=on_change,
                on_trouble=on_trouble,
                on_stale=on_stale,
                sleep=self.sleep,
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
            sleep=self.sleep,
        )
        return record.with_(endpoint={**endpoint.to_dict(), "at": timestamp()})

    def ask(self, record: Receipt, prompt: str) -> Receipt:
        """Ask the deployed adapter, unless the receipt has the answer. Raises ServiceError."""
        from lora_packer.together import APIS

        if (record.answer or {}).get("prompt") == prompt:
            self.note("ask", DONE_BEFORE)
            return record
        answer = APIS[self.api].ask(self.client, (record.endpoint or {})["name"], prompt)
        self.note("ask", f"{answer.model} answered")
        return record.with_(answer={"prompt": prompt, **answer.to_dict(), "at": timestamp()})


def _model_name(record: Receipt) -> str:
    """The name that the service gave the adapter."""
    return (record.submission or {}).get("model_name") or str(record.release["model_name"])
