"""What a release that stopped on its way leaves: what still runs and costs, and what was kept."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from lora_packer.errors import InputError
from lora_packer.pipeline.receipt import Receipt, load_receipt
from lora_packer.redact import escape


def still_costs(record: Receipt | None, *, deploying: bool = False) -> tuple[str, ...]:
    """Say what goes on to cost money; ``deploying`` is whether an endpoint was asked for."""
    from lora_packer.together import Endpoint

    if record is None:
        return ()
    if record.endpoint:
        known = {item.name for item in fields(Endpoint)}
        try:
            seen = Endpoint(**{name: value for name, value in record.endpoint.items() if name in known})
            attached = record.endpoint.get("attached")
            which = f", which ran before, with {escape(str(attached), 120)} attached" if attached else ""
            return () if seen.is_stopped else (f"Endpoint {seen.id} goes on{which}, and {seen.cost}.",)
        except (TypeError, ValueError, AttributeError):  # a receipt of another release, or one that was edited
            return (f"The endpoint that {record.path} names may go on, and cost money: look at it.",)
    if deploying and record.is_complete:
        return ("An endpoint may have been created, and then it costs money: the next run finds it and takes it.",)
    return ()


def still_runs(record: Receipt | None, *, attaching: str | None = None) -> tuple[str, ...]:
    """Say what goes on at the service without this command, beside what costs money.

    ``attaching`` is to what the adapter was to be attached.
    """
    if record is None:
        return ()
    if record.is_complete:
        if attaching is None or record.endpoint:
            return ()
        where = escape(attaching, 120)
        return (f"The adapter may be attached to {where} by now, and then stays so: the next run looks first.",)
    if (record.submission or {}).get("state") == "sending":
        return ("The job may have been submitted: the next run looks for it before it submits.",)
    return (f"Job {record.job_id} goes on at the service.",) if record.job_id else ()


def was_kept(record: Receipt | None, *, is_sent_in_part: bool = False) -> tuple[str, ...]:
    """Say what the next run need not do again; ``is_sent_in_part`` is whether an upload was begun."""
    done = []
    if record is not None and record.check:
        done.append("the check")
    if record is not None and record.object:
        done.append(f"the upload (s3://{record.object.get('bucket')}/{record.object.get('key')})")
    elif is_sent_in_part:
        done.append("the parts that the store has")
    if record is not None and record.is_complete:
        done.append(f"the job ({record.job_id}, Complete)")
    if not done:
        return ("Nothing was sent.",)
    at = f" in {record.path}" if record is not None and record.path else ""
    return (f"Kept{at}: {', '.join(done)}.",)


def read_again(path: Path | None) -> Receipt | None:
    """Return the receipt of a run that stopped; None where there is none, or it cannot be read any more."""
    try:
        return load_receipt(path) if path is not None else None
    except InputError:
        return None
