"""``lora-packer release``: all of it, resumable, with a receipt."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.left import ReleaseLeft, told_where_it_stops
from lora_packer.cli.named_files import require_kept
from lora_packer.cli.options import AdapterArgument, CheckFirst, ExtrasOption
from lora_packer.cli.service_options import (
    ApiOption,
    ApiVersion,
    Asked,
    AttachOption,
    HardwareOption,
    Names,
    SkipOption,
    TimeoutOption,
)
from lora_packer.cli.stages import Stages, show_failed_check
from lora_packer.cli.store_options import Store
from lora_packer.duration import parse_duration
from lora_packer.errors import InputError
from lora_packer.redact import escape, shell_word

if TYPE_CHECKING:
    from lora_packer.pipeline.receipt import Receipt, Section


_REHEARSED = "The sandbox has stopped: nothing runs, nothing costs, and nothing of the rehearsal is kept."


@command
def release(
    *,
    adapter: AdapterArgument,
    names: Names,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="S3URI",
            help="Where to upload: s3://bucket/prefix/. Not for a Hub repo, nor with --sandbox.",
        ),
    ] = None,
    store: Store,
    receipt: Annotated[
        Path | None,
        typer.Option(
            "--receipt",
            metavar="FILE",
            help="The receipt to write and resume from. Default: in the working folder, named after ADAPTER: "
            "my-lora.NAME.receipt.json for path/to/my-lora, my-lora.zip or hf://org/my-lora.",
        ),
    ] = None,
    api: ApiOption = ApiVersion.auto,
    direct: Annotated[
        bool,
        typer.Option(
            "--direct", help="Send the folder to the service itself, without S3: through version 2 of the API only."
        ),
    ] = False,
    skip_existing: SkipOption = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the job ends.")] = True,
    timeout: TimeoutOption = "60m",
    deploy: Annotated[
        bool,
        typer.Option(
            "--deploy", help="Then create an endpoint for it and wait until it serves: costs money until `stop`."
        ),
    ] = False,
    hardware: HardwareOption = None,
    attach: AttachOption = None,
    ask: Annotated[
        str | None,
        typer.Option("--ask", metavar="PROMPT", help="Ask it a first question: with --deploy or --attach."),
    ] = None,
    asked: Asked,
    sandbox: Annotated[
        bool,
        typer.Option("--sandbox", help="Rehearse against a local S3 and a local service, started and stopped here."),
    ] = False,
    include_extras: ExtrasOption = False,
    first: CheckFirst,
    output: Output,
) -> None:
    """Check, pack, upload, presign, prove, submit and wait, in one command; with --deploy and --ask, up to an answer.

    A Hub repo (hf://org/repo) is checked by its header and submitted as it is: the service fetches it itself. So is a
    finished archive in S3 (s3://bucket/key.zip, without --to), by a presigned URL of it.
    Run it again after anything that went wrong: it resumes from its receipt, and never uploads or submits twice.
    """
    from lora_packer.pipeline import silent
    from lora_packer.pipeline.check import run_check
    from lora_packer.pipeline.release import release as run_release

    stages = Stages(output)
    questions = asked.questions(ask) if ask is not None or asked.is_used else None
    require_kept(receipt, "--receipt", "the next run goes on from it")
    options = first.of(names.base_model)
    if sandbox:
        _require_local(adapter)
    with ExitStack() as stack:
        stack.enter_context(show_failed_check(output))
        left = ReleaseLeft(stages, deploying=deploy, attaching=attach)
        if sandbox:
            stack.enter_context(told_where_it_stops(lambda: (_REHEARSED,)))
        else:
            stack.enter_context(told_where_it_stops(left, costs=left.costs))
        stack.enter_context(stages)
        there: dict[str, Any] = {"to": to, "receipt": receipt, **store.place()}
        if sandbox:
            # Before anything is started: an adapter that fails its check needs no sandbox.
            run_check(adapter, options, silent, sha256=False)
            there |= _sandbox(stack, stages, names.base_model, receipt)
            if direct:
                there["to"] = None
        done = run_release(
            adapter,
            model_name=names.model_name,
            base_model=names.base_model,
            expires_in=parse_duration(store.expires_in),
            description=names.description,
            options=options,
            include_extras=include_extras,
            api=api,
            direct=direct,
            skip_existing=skip_existing,
            wait=wait,
            timeout=parse_duration(timeout),
            deploy=deploy,
            hardware=hardware,
            attach=attach,
            questions=questions,
            note=stages.note,
            progress=stages.progress,
            sleep=stages.sleep,
            began=left.began,
            **there,
        )
    output.result(_text(done, kept=not sandbox or receipt is not None, rehearsal=sandbox), done.to_dict())


def _require_local(adapter: str) -> None:
    """Raise InputError where a sandbox, with a Hub and an S3 of its own, could not have the adapter."""
    from lora_packer.adapter.elsewhere import is_stored_archive
    from lora_packer.hub import repo_in

    if is_stored_archive(adapter):
        raise InputError(
            f"--sandbox has an S3 of its own, without {escape(adapter)}.",
            hint="Start `lora-packer sandbox`, put the archive there, and release from there without --sandbox.",
        )
    repo = repo_in(adapter)
    if repo is not None:
        raise InputError(
            f"--sandbox has a Hub of its own, without {repo}.",
            hint="Start `lora-packer sandbox --hub ORG/NAME=FOLDER`, and release from there without --sandbox.",
        )


def _sandbox(stack: ExitStack, stages: Stages, base_model: str, receipt: Path | None) -> dict[str, Any]:
    """Start a sandbox that hosts the base model and ends with the command; return where the release goes instead."""
    import tempfile

    from lora_packer.sandbox import Sandbox
    from lora_packer.together import Client

    started = stack.enter_context(Sandbox(base_models=(base_model,)))
    stages.note("sandbox", "a local S3 and a local service on 127.0.0.1")
    environment = started.environment()
    if receipt is None:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lora-packer-"))
        receipt = Path(folder) / "receipt.json"
    return {
        "to": started.destination,
        "endpoint_url": environment["AWS_ENDPOINT_URL_S3"],
        "receipt": receipt,
        "session": started.session(),
        "client": stack.enter_context(Client.from_environment({**environment, "TOGETHER_PROJECT_ID": ""})),
    }


def _text(receipt: Receipt, *, kept: bool, rehearsal: bool) -> str:
    from lora_packer.together import option

    job, stored = receipt.job or {}, receipt.object or {}
    submission = receipt.submission or {}
    lines = [f"model    {submission.get('model_name') or receipt.release['model_name']}"]
    lines.append(f"job      {receipt.job_id}")
    lines.append(f"status   {job.get('status', 'submitted')}")
    if submission.get("skipped"):
        lines.append(f"skipped  {submission.get('reason')}")
    if "commit" in receipt.adapter:
        lines.append(f"source   {receipt.adapter['source']}, checked at commit {receipt.adapter['commit'][:12]}")
    if stored:
        lines.append(f"object   s3://{stored.get('bucket')}/{stored.get('key')}")
    if kept:
        lines.append(f"receipt  {receipt.path}")
    if not job:
        words = option(receipt.release["api"], receipt.job_id or "")
        lines.append(f"next     lora-packer wait {shell_word(receipt.job_id)}{words}")
    if receipt.endpoint:
        lines += _deployed(receipt.endpoint, receipt.answer or {}, rehearsal=rehearsal)
    if receipt.smoke:
        lines.append(f"verdict  {receipt.smoke['summary']}")
    return "\n".join(lines)


def _deployed(endpoint: Section, answer: Section, *, rehearsal: bool) -> list[str]:
    from lora_packer.together import Endpoint

    known = {item.name for item in fields(Endpoint)} - {"deployments"}
    seen = Endpoint(**{name: value for name, value in endpoint.items() if name in known})
    cost = "nothing: the sandbox has stopped" if rehearsal else seen.cost
    lines = [f"endpoint {seen.id} {seen.state}", f"cost     {cost}"]
    if endpoint.get("attached"):
        lines[0] += f", with {endpoint['attached']} attached"
        lines[1] += "; the adapter costs nothing more"
    elif not rehearsal:
        lines.append(f"next     {seen.stop_command}")
    if answer:
        lines += [f"asked    {escape(answer['prompt'])}", f"answer   {answer['text']}"]
    return lines
