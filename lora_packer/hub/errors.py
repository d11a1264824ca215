"""What the Hub's refusals mean for a repository and a token, and which of them may pass."""

from __future__ import annotations

from urllib.parse import unquote

from lora_packer.errors import InconclusiveError, InputError, LoraPackerError
from lora_packer.hub.repo import HubRepo
from lora_packer.redact import Secret, escape, scrub

_LATER = "Check the network and HF_ENDPOINT, then run it again."


def unreadable(repo: HubRepo, reason: str) -> InconclusiveError:
    """Return the error for a repository that the Hub did not tell enough about."""
    return InconclusiveError(f"{repo} could not be read: {reason}.", hint=_LATER)


def explain(error: Exception, repo: HubRepo, token: Secret | None) -> LoraPackerError:
    """Return what an error of huggingface_hub or httpx2 means for this repository and token.

    InputError: there is nothing to read for this token. InconclusiveError: the Hub did not tell.
    """
    from huggingface_hub import errors

    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if isinstance(error, errors.GatedRepoError):
        why = "the account of HF_TOKEN has no access to it" if token else "no HF_TOKEN is set"
        return InputError(
            f"{repo} is gated, and {why}.",
            hint=f"Accept the licence at {repo.url} and set HF_TOKEN to a token of that account.",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        why = "HF_TOKEN may not read it" if token else "no HF_TOKEN is set"
        return InputError(
            f"{repo} does not exist, or is private and {why}; the Hub answers the same to both (HTTP {status}).",
            hint="Check the spelling; for a private repository set HF_TOKEN to a token that may read it.",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(f"{repo.id} has no revision '{repo.revision}'.", hint=f"See {repo.url}/commits.")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return InputError(f"{repo} lacks the file: {_last_part(error)}.", hint=f"See {repo.url}/tree/main.")
    if isinstance(error, errors.DisabledRepoError):
        return InputError(f"{repo} is disabled by the Hub or its owner.", hint=f"See {repo.url}.")
    if status == 401:
        return InputError(
            "The Hub refuses the token in HF_TOKEN (HTTP 401).",
            hint="Make a new one at https://huggingface.co/settings/tokens, or unset it for a public repository.",
        )
    if status == 403:
        who = "The token in HF_TOKEN" if token else "Who has no token"
        return InputError(
            f"{who} may not read {repo} (HTTP 403).",
            hint="A fine-grained token needs read access to the repository; for a gated one, to gated repositories.",
        )
    reason = f"the Hub answered HTTP {status}" if status is not None else f"no answer from the Hub ({_words(error)})"
    return unreadable(repo, reason)


def may_pass(error: Exception) -> bool:
    """Whether the same request may succeed in a moment: a broken answer, 429 or a failure on the Hub's side."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code == 429 or error.response.status_code >= 500
    return not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError)


def _words(error: Exception) -> str:
    """An error's first line, fit to be shown."""
    lines = scrub(str(error)).strip().splitlines()
    return escape(lines[0] if lines else type(error).__name__, 160).rstrip(".")


def _last_part(error: Exception) -> str:
    """The name at the end of the address that an answer is about."""
    response = getattr(error, "response", None)
    return escape(unquote(str(response.url).rpartition("/")[2])) if response is not None else "unknown"
