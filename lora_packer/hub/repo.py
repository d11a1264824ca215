"""What names a repository of the Hugging Face Hub: ``org/name``, ``hf://...``, a page of huggingface.co."""

from __future__ import annotations

import re
from urllib.parse import unquote

from lora_packer.errors import InputError
from lora_packer.frozen import frozen

DEFAULT_ENDPOINT = "https://huggingface.co"

_HOSTS = ("huggingface.co", "www.huggingface.co")
# The Hub's own rules for repository names: huggingface_hub/utils/_validators.py (validate_repo_id).
_NAME = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?(?<!\.git)")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_EXPECTED = "Give hf://org/repo, hf://org/repo@revision or https://huggingface.co/org/repo."

_BARE = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?:@[\w./-]+)?", re.ASCII)


@frozen
class HubRepo:
    """A model repository on the Hugging Face Hub.

    Attributes:
        id: ``org/name``.
        revision: a branch, tag or commit; None is the default branch.
    """

    id: str
    revision: str | None = None

    @property
    def name(self) -> str:
        """The repository's name without the organisation's."""
        return self.id.rpartition("/")[2]

    @property
    def url(self) -> str:
        """The repository's page."""
        return f"{DEFAULT_ENDPOINT}/{self.id}"

    def __str__(self) -> str:
        return f"hf://{self.id}" + (f"@{self.revision}" if self.revision else "")


def repo_in(text: str) -> HubRepo | None:
    """Return the repository that ``hf://...`` or a page of huggingface.co names; None for any other text.

    Raises InputError where it names none; the text is not repeated, for an address may have a secret in it.
    """
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "hf":
        return parse_repo(rest)
    if separator and scheme == "https" and rest.partition("/")[0].lower() in _HOSTS:
        return parse_repo(_from_page(rest.partition("/")[2]))
    return None


def parse_repo(text: str) -> HubRepo:
    """Return the repository in ``org/name[@revision]``. Raises InputError, without repeating the text."""
    repo, at, revision = text.partition("@")
    organisation, slash, name = repo.partition("/")
    good = slash and all(_NAME.fullmatch(part) for part in (organisation, name))
    if not good or organisation in ("datasets", "spaces") or (at and not _REVISION.fullmatch(revision)):
        raise InputError("That is not a model repository of the Hugging Face Hub.", hint=_EXPECTED)
    return HubRepo(repo, revision or None)


def _from_page(path: str) -> str:
    """``org/repo/tree/main`` as a browser shows it -> ``org/repo@main``."""
    path = unquote(path.partition("?")[0].partition("#")[0]).rstrip("/")
    repo, tree, revision = path.partition("/tree/")
    return f"{repo}@{revision}" if tree else path


def proposed(text: str) -> str | None:
    """Return what to write for a repository that ``org/name`` may have meant; None where it can be none."""
    if not _BARE.fullmatch(text):
        return None
    try:
        return f"hf://{parse_repo(text)}".replace("hf://hf://", "hf://")
    except InputError:
        return None
