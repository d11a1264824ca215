"""A local Hugging Face Hub on loopback: folders as model repositories, good enough for huggingface_hub itself.

It answers what reading a repository asks: what is in it (``/api/models/...``) and its files, whole or by byte ranges
(``/.../resolve/...``). Refusals have the status and the ``X-Error-Code`` that huggingface_hub 2.4 tells apart
(``hf_raise_for_status`` in utils/_http.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit

from lora_packer.files import is_file
from lora_packer.frozen import frozen
from lora_packer.redact import Secret
from lora_packer.sandbox.loopback import LoopbackHandler, LoopbackServer

Access = Literal["public", "private", "gated"]

_ATTRIBUTES = ".gitattributes"  # the one such name that each repository of the Hub has
_CHUNK = 2**20
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_INVALID_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105 - a message


@frozen
class Served:
    """One request that was answered: the address's path, the status and the number of the body's bytes."""

    method: str
    path: str
    status: int
    bytes: int


@frozen
class _File:
    path: Path
    size: int
    sha256: str


@dataclass(slots=True)
class _Repo:
    access: Access
    commits: dict[str, dict[str, _File]]
    branches: dict[str, str]


class LocalHub:
    """The Hub, from ``with`` to its end.

    Attributes:
        endpoint: its address, for HF_ENDPOINT; known once it runs.
        token: of an account that may read every repository.
        other_token: of an account that may read the public ones only.
        served: every request so far.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self.token = Secret(f"hf_{secrets.token_hex(17)}")
        self.other_token = Secret(f"hf_{secrets.token_hex(17)}")
        self.served: list[Served] = []
        self._repos: dict[str, _Repo] = {}
        self._lock = threading.Lock()
        self._server: LoopbackServer | None = None

    def __enter__(self) -> Self:
        """Start it. Raises SandboxError."""
        self._server = _Server(self)
        self.endpoint = self._server.address
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.stop()

    def add(self, repo_id: str, folder: Path, *, access: Access = "public", branch: str = "main") -> str:
        """Serve a folder's files as the newest commit of a branch, and return the commit's id.

        What a repository would not hold is left out: names with a dot before them, and links out of the folder.
        """
        files = {
            name: _File(path, path.stat().st_size, _sha256(path)) for name, path in sorted(_files_of(folder.resolve()))
        }
        content = json.dumps([(name, file.sha256) for name, file in files.items()])
        with self._lock:
            repo = self._repos.setdefault(repo_id, _Repo(access, {}, {}))
            repo.access = access
            parent = repo.branches.get(branch, "")
            commit = hashlib.sha1(f"{branch}{parent}{content}".encode(), usedforsecurity=False).hexdigest()
            repo.commits[commit] = files
            repo.branches[branch] = commit
        return commit

    def read(self, path: str, authorization: str) -> tuple[dict[str, str], bytes | _File]:
        """Return the headers and the body of what is at a path. Raises _Refused."""
        token = self._account(authorization)
        parts = [unquote(part) for part in path.strip("/").split("/")]
        match parts:
            case ["api", "models", organisation, name, *rest] if not rest or (rest[0] == "revision" and len(rest) == 2):
                repo = self._readable(f"{organisation}/{name}", token)
                commit = _commit(repo, rest[1] if rest else "main")
                return {}, json.dumps(_info(f"{organisation}/{name}", repo, commit)).encode()
            case [organisation, name, "resolve", revision, first, *rest]:
                repo = self._readable(f"{organisation}/{name}", token)
                self._let_in(f"{organisation}/{name}", repo, token)
                commit = _commit(repo, revision)
                file = repo.commits[commit].get("/".join([first, *rest]))
                if file is None:
                    raise _Refused(404, "EntryNotFound", "Entry not found")
                return {"X-Repo-Commit": commit, "ETag": f'"{file.sha256}"'}, file
        raise _Refused(404, None, "Not found")

    def _account(self, authorization: str) -> Secret | None:
        """The token that was sent, or None. Raises _Refused for one that is nobody's."""
        if not authorization:
            return None
        for token in (self.token, self.other_token):
            if secrets.compare_digest(authorization.encode(), f"Bearer {token.reveal()}".encode()):
                return token
        raise _Refused(401, None, _INVALID_TOKEN)

    def _readable(self, repo_id: str, token: Secret | None) -> _Repo:
        """The repository, unless it is missing or private to others, which is answered alike. Raises _Refused."""
        repo = self._repos.get(repo_id)
        if repo is None or (repo.access == "private" and token != self.token):
            raise _Refused(*((401, "RepoNotFound", "Invalid username or password.") if token is None else _MISSING))
        return repo

    def _let_in(self, repo_id: str, repo: _Repo, token: Secret | None) -> None:
        """Refuse the files of a gated repository; what it holds is told to everybody. Raises _Refused."""
        if repo.access != "gated" or token == self.token:
            return
        restricted = f"Access to model {repo_id} is restricted"
        if token is None:
            raise _Refused(401, "GatedRepo", f"{restricted}. You must have access to it and be authenticated.")
        raise _Refused(403, "GatedRepo", f"{restricted} and you are not in the authorized list.")


_MISSING = (404, "RepoNotFound", "Repository not found")


class _Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """An answer without content."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.body = json.dumps({"error": message}).encode()


class _Server(LoopbackServer):
    def __init__(self, hub: LocalHub) -> None:
        self.hub = hub
        super().__init__(_Handler, "hub")


class _Handler(LoopbackHandler, BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        status = 200
        content: bytes | _File
        try:
            headers, content = self.server.hub.read(urlsplit(self.path).path, self.headers.get("Authorization", ""))
        except _Refused as refusal:
            status, headers, content = refusal.status, refusal.headers, refusal.body
        begin, end = 0, content.size if isinstance(content, _File) else len(content)
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        if isinstance(content, _File):
            headers |= {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
            if wanted and with_body:
                begin, size = int(wanted[1]), end
                end = min(int(wanted[2]) + 1, size) if wanted[2] else size
                status = 206 if begin < end else 416
                end = max(begin, end)
                headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}" if status == 206 else f"bytes */{size}"
        else:
            headers["Content-Type"] = "application/json"
        self.server.hub.served.append(Served(self.command, self.path, status, end - begin if with_body else 0))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(end - begin)}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self._send(content, begin, end)

    def _send(self, content: bytes | _File, begin: int, end: int) -> None:
        if isinstance(content, bytes):
            self.wfile.write(content)
            return
        with open(content.path, "rb", opener=_open_no_link) as file:
            file.seek(begin)
            while begin < end and (chunk := file.read(min(_CHUNK, end - begin))):
                self.wfile.write(chunk)
                begin += len(chunk)


def _commit(repo: _Repo, revision: str) -> str:
    """The commit that a branch's name or a commit's id stands for. Raises _Refused."""
    commit = repo.branches.get(revision, revision)
    if commit not in repo.commits:
        raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    return commit


def _info(repo_id: str, repo: _Repo, commit: str) -> dict[str, Any]:
    """What ``HfApi.model_info(files_metadata=True)`` reads."""
    siblings: list[dict[str, Any]] = []
    for name, file in repo.commits[commit].items():
        large = {"lfs": {"sha256": file.sha256, "size": file.size, "pointerSize": 134}}
        entry = {"rfilename": name, "size": file.size, "blobId": file.sha256[:40]}
        siblings.append(entry | (large if name.endswith(".safetensors") else {}))
    return {
        "_id": commit[:24],
        "id": repo_id,
        "modelId": repo_id,
        "sha": commit,
        "private": repo.access == "private",
        "gated": "manual" if repo.access == "gated" else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": siblings,
    }


def _files_of(folder: Path) -> Iterator[tuple[str, Path]]:
    """The names of a folder's files, and where each really lies."""
    for place, below, names in os.walk(folder):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            real = path.resolve()
            if (not name.startswith(".") or name == _ATTRIBUTES) and is_file(real) and real.is_relative_to(folder):
                yield path.relative_to(folder).as_posix(), real


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))


def _sha256(path: Path) -> str:
    with open(path, "rb", opener=_open_no_link) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
