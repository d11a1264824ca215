"""The receipt of a release: what was checked, packed, uploaded and submitted, with digests; never a secret.

It is written before every step that must not happen twice, and a second run resumes from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from lora_packer.errors import InputError
from lora_packer.files import read_whole, write_whole
from lora_packer.frozen import frozen
from lora_packer.locks import locked
from lora_packer.redact import escape

SCHEMA_VERSION = 1
_MAX_BYTES = 1_000_000

Section = Mapping[str, Any]

# What a later run goes by: text where it is there at all. The rest is compared, or read as it is told.
_TEXTS = {
    "adapter": ("source", "commit", "commit_after"),
    "object": ("bucket", "key"),
    "url": ("host", "deadline"),
    "submission": ("state", "job_id", "model_name", "at"),
    "job": ("id", "status"),
    "endpoint": ("id", "name", "state", "attached"),
    "answer": ("prompt",),
    "smoke": ("verdict", "summary"),
}
_REQUIRED = {"endpoint": ("id", "name")}


@frozen
class Receipt:
    """The record of one release; a section is None until its step was done.

    Attributes:
        release: what was asked for: model_name, base_model, to, service, api, description.
        adapter: where it came from, and the SHA-256 of its files.
        check: status, options, what it was made against (id, source and SHA-256 of the config), every finding, by which
            version of this package, when.
        archive: format, size, sha256 and members of what was sent; path, where it is a file.
        object: bucket, key, size, sha256, etag, version and integrity of what was uploaded.
        url: host, deadline (UTC) and what was proven of the presigned URL; not the URL.
        submission: ``state`` (``sending``, ``submitted`` or ``failed``), job_id, model_name, when.
        job: the last status seen.
        endpoint: id, name, state, hardware and price of what serves the adapter, once it was deployed.
        answer: the first question, and what the deployed adapter said.
        smoke: what a test of the answers found: digests of the prompts, answers, verdict.
    """

    release: Section
    adapter: Section
    check: Section | None = None
    archive: Section | None = None
    object: Section | None = None
    url: Section | None = None
    submission: Section | None = None
    job: Section | None = None
    endpoint: Section | None = None
    answer: Section | None = None
    smoke: Section | None = None
    path: Path | None = field(default=None, compare=False)

    @property
    def asked_model(self) -> str:
        """The model's name as it was asked for."""
        return str(self.release["model_name"])

    @property
    def base_model(self) -> str:
        """The base model that was asked for."""
        return str(self.release["base_model"])

    @property
    def model_name(self) -> str:
        """The name that the service gave the adapter; until then the one that was asked for."""
        found = (self.submission or {}).get("model_name")
        return found if isinstance(found, str) and found else self.asked_model

    @property
    def asked_name(self) -> str:
        """By which name the deployed adapter is asked: its endpoint's, or its own where it is attached to another's."""
        endpoint = self.endpoint or {}
        return str(endpoint.get("attached") or endpoint["name"])

    @property
    def job_id(self) -> str | None:
        """The id of the upload job, once it was submitted."""
        found = (self.submission or {}).get("job_id")
        return found if isinstance(found, str) else None

    @property
    def is_complete(self) -> bool:
        """Whether the job ended as Complete."""
        return (self.job or {}).get("status") == "Complete"

    def to_dict(self) -> dict[str, Any]:
        """Return the receipt as its file has it."""
        sections = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "path"}
        return {"schema_version": SCHEMA_VERSION, **sections}

    def with_(self, **sections: Any) -> Self:
        """Return the receipt with sections replaced, after writing it to its file. Raises InputError."""
        changed = replace(self, **sections)
        changed.save()
        return changed

    def save(self) -> None:
        """Write the file whole and durably, or not at all. Raises InputError."""
        if self.path is None:
            return
        try:
            write_whole(self.path, json.dumps(self.to_dict(), indent=2) + "\n")
        except OSError as error:
            raise InputError(f"The receipt {str(self.path)!r} cannot be written: {error.strerror}.") from None


def load_receipt(path: Path) -> Receipt | None:
    """Return the receipt at ``path``, or None where there is none. Raises InputError where it is not a receipt."""
    hint = "Choose another file with --receipt."
    try:
        data = read_whole(path, _MAX_BYTES)
    except FileNotFoundError:
        return None
    except ValueError:
        data = b""
    except OSError as error:
        raise InputError(f"The receipt {str(path)!r} cannot be read: {error.strerror}.", hint=hint) from None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    names = [item.name for item in fields(Receipt) if item.name != "path"]
    if (
        not isinstance(value, dict)
        or value.get("schema_version") != SCHEMA_VERSION
        or not all(isinstance(value.get(name), dict) for name in ("release", "adapter"))
        or not all(value.get(name) is None or isinstance(value[name], dict) for name in names)
    ):
        raise InputError(f"'{escape(str(path))}' is not a receipt of this version.", hint=hint)
    sections: dict[str, Any] = {name: value.get(name) for name in names}
    if field_name := _wrong_field(sections):
        raise InputError(f"'{escape(str(path))}' is no receipt: its {field_name} is missing or no text.", hint=hint)
    return Receipt(**sections, path=path)


def _wrong_field(sections: Mapping[str, Section | None]) -> str | None:
    """The first field that a later run could not go by; None where there is none."""
    for section, names in _TEXTS.items():
        told = sections[section]
        for name in names if told is not None else ():
            value = told.get(name) if told is not None else None
            missing = value is None and name in _REQUIRED.get(section, ())
            if missing or not isinstance(value, str | None):
                return f"{section}.{name}"
    return None


def resume(found: Receipt | None, fresh: Receipt, *, is_of_these_files: bool) -> Receipt:
    """Return the receipt to go on from: the one that was found, or a fresh one where nothing was submitted with it.

    A name whose job failed is free again, so a receipt that ended so makes way for a mended adapter. Raises InputError
    where a receipt with a submission is of another release.
    """
    if found is None:
        return fresh
    different = [name for name in fresh.release if found.release.get(name) != fresh.release[name]]
    if not is_of_these_files:
        different.append("the adapter's files")
    if not different:
        return found
    if found.submission is None or found.submission.get("state") == "failed":
        return fresh
    raise InputError(
        f"The receipt {str(fresh.path)!r} is of another release: {', '.join(different)} differ.",
        hint="A model name can be used once: choose a new --model-name, and another file with --receipt.",
    )


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a receipt for the length of a run: a second run with it would submit a second job, or lose the first.

    Raises InputError where another run holds it, or where its folder cannot be written to.
    """
    with locked(path):
        yield


def default_receipt(adapter: str, model_name: str) -> Path:
    """Return the receipt's file in the working folder, by the names of the adapter and of the model that it becomes."""
    names = [model_name] if adapter == model_name else [adapter, model_name]
    return Path(f"{'.'.join(names)}.receipt.json")


def version() -> str:
    """Return the version of this package."""
    from lora_packer import __version__

    return __version__


def timestamp() -> str:
    """Return the time now, in UTC, as receipts have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
