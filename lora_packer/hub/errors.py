"""What the Hub's refusals mean for a repository and a token, and which of them may pass."""

from __future__ import annotations

from urllib.parse import unquote

from lora_packer.errors import InconclusiveError, InputError, LoraPackerError
from lora_packer.hub.repo import HubRepo
from lora_packer.redact import Secret, escape, scrub

# What the Hub says in X-Error-Message, where its status and code do not tell.
_REFUSED = "Invalid credentials in Authorization header"
_DISABLED = "Access to this resource is disabled."
_LATER = "Check the network and HF_ENDPOINT, then run it again."


def unreadable(repo: HubRepo, reason: str) -> InconclusiveError:
    """Return the error for a repository that the Hub did not tell enough about."""
    return InconclusiveError(f"{repo} could not be read: {reason}.", hint=_LATER)


def explain(error: Exception, repo: HubRepo, token: Secret | None) -> LoraPackerError:
    """Return what an error of httpx2 or huggingface_hub means for this repository and token.

    The answer alone is read, not the error's class, which every major release of huggingface_hub derives from another
    client's. What the answers mean stands in its ``hf_raise_for_status`` (``utils/_http.py`` of 2.4.0, unchanged since
    0.34).

    InputError: there is nothing to read for this token. InconclusiveError: the Hub did not tell.
    """
    answer = getattr(error, "response", None)
    status = answer.status_code if answer is not None else None
    code = answer.headers.get("X-Error-Code", "") if answer is not None else ""
    words = answer.headers.get("X-Error-Message", "") if answer is not None else ""
    if code == "GatedRepo":
        why = "the account of HF_TOKEN has no access to it" if token else "no HF_TOKEN is set"
        return InputError(
            f"{repo} is gated, and {why}.",
            hint=f"Accept the licence at {repo.url} and set HF_TOKEN to a token of that account.",
        )
    if code == "RepoNotFound" or (status == 401 and words != _REFUSED):
        why = "HF_TOKEN may not read it" if token else "no HF_TOKEN is set"
        return InputError(
            f"{repo} does not exist, or is private and {why}; the Hub answers the same to both (HTTP {status}).",
            hint="Check the spelling; for a private repository set HF_TOKEN to a token that may read it.",
        )
    if code == "RevisionNotFound":
        return InputError(f"{repo.id} has no revision '{repo.revision}'.", hint=f"See {repo.url}/commits.")
    if code == "EntryNotFound":
        return InputError(f"{repo} lacks the file: {_last_part(error)}.", hint=f"See {repo.url}/tree/main.")
    if words == _DISABLED:
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

    if isinstance(error, httpx2.HTTPStatusError):
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
