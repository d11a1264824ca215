"""What stands in arguments, paths and variables, and where the output goes."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from hostile.case import (
    CANARY,
    FAILED,
    INCONCLUSIVE,
    OK,
    TINY,
    TINY_BASE,
    UNREADABLE,
    UPLOAD,
    Arguments,
    Build,
    Case,
    cases,
    check,
    tiny,
)

_NAMES = {
    "ANSI": "a\x1b[31mX\x1b]0;pwn\x07",
    "newline ::error::": "a\n::error::pwned",
    "RTL": "a\u202eb",
    "leading dash": "-rf",
    "quotes": "a'b\"c",
    "dollar": "$(id)",
    "not UTF-8": b"a\xff\xfe".decode("utf-8", "surrogateescape"),
    "backquotes": "`id`",
}


def _at(name: str, broken: bool, command: str) -> Build:
    def build(folder: Path) -> Arguments:
        shutil.copytree(TINY, folder / name)
        if broken:
            (folder / name / "adapter_config.json").write_text("{")
        return [command, "--base-config", str(TINY_BASE), "--", name]

    return build


def _given(*arguments: str) -> Build:
    def build(folder: Path) -> Arguments:
        tiny(folder)
        return arguments

    return build


_SEVERAL: list[tuple[str, Build]] = [
    ("a key among the adapters", _given("check", "a", CANARY)),
    ("a URL with a password among the adapters", _given("check", "a", f"https://user:{CANARY}@127.0.0.1:1/x")),
    (
        "a presigned URL among the adapters",
        _given("check", "a", f"https://127.0.0.1:1/k?X-Amz-Signature={CANARY}"),
    ),
]

_USAGE: list[tuple[str, Build]] = [
    ("a key as a command", _given(CANARY)),
    ("a key as a surplus argument", _given("pack", "a", CANARY)),
    ("an unknown option with a key", _given("check", "a", f"--token={CANARY}")),
    (
        "a presigned URL as the source",
        _given("submit", f"https://127.0.0.1:1/k?X-Amz-Signature={CANARY}", "--model-name", "m"),
    ),
    ("--expires-in of 5,000 digits", _given("publish", "a", "--to", "s3://b/p/", "--expires-in", "1" * 5000)),
    ("--to of 100,000 characters", _given("publish", "a", "--to", "s3://" + "b" * 100_000)),
    ("--to with a newline", _given("publish", "a", "--to", "s3://b/x\n::error::y/")),
    ("--to with a password", _given("publish", "a", "--to", f"https://u:{CANARY}@s3.amazonaws.com/b/p")),
    (
        "--endpoint-url with a password",
        _given("publish", "a", "--to", "s3://b/p/", "--endpoint-url", f"http://u:{CANARY}@127.0.0.1:1/"),
    ),
    ("--format of 100,000 characters", _given("check", "a", "--format", "x" * 100_000)),
    ("--format with ANSI", _given("check", "a", "--format", "\x1b[31mX")),
    ("--target with ANSI", _given(*check("--target", "\x1b[31mX\n::error::y"))),
    ("--target of 100,000 characters", _given(*check("--target", "t" * 100_000))),
    ("--select with ANSI", _given(*check("--select", "\x1b[31m\n::error::y"))),
    ("an argument with NUL", _given("rule", "LP\u202e101")),
    ("rule of 100,000 characters", _given("rule", "x" * 100_000)),
    ("--fail with nothing", _given("sandbox", "--fail", " ")),
    ("--timeout of 10^400", _given("wait", "job-1", "--timeout", "9" * 400)),
    ("a job id with ANSI", _given("status", "\x1b[31m\n::error::x")),
    ("a job id that is a path", _given("status", "../../v1/models")),
    ("an endpoint id of 100,000 characters", _given("stop", "e" * 100_000)),
]

_BASES = {
    "a token in a URL": f"https://user:{CANARY}@huggingface.co/a/b",
    "100,000 characters": "x" * 100_000,
    "ANSI": "a/\x1b[31mX",
    "newline ::error::": "a/b\n::error::y",
    "a path": "/etc/passwd",
}

_VARIABLES = {
    "TOGETHER_API_KEY": ("{}\n", " {}", "{}\r\n", "'{}'", "{}\x1b[31m", "{}\u202e", "Bearer {}"),
    "AWS_SESSION_TOKEN": ("{}\n", "{}\r\nX-Evil: 1", " {} ", "{}\u00e9"),
    "AWS_SECRET_ACCESS_KEY": ("{}\n", "{} ", "'{}'"),
    "AWS_ACCESS_KEY_ID": ("{}\n", "{}/x", " {}"),
    "HF_TOKEN": ("{}\n", "'{}'", "{} {}", "{}\u202e"),
    "HTTPS_PROXY": ("http://u:{}@nowhere.invalid:1", "socks9://{}"),
    "SSL_CERT_FILE": ("/nowhere/{}",),
    "AWS_CA_BUNDLE": ("/nowhere/x",),
    "AWS_PROFILE": ("{}",),
    "AWS_ENDPOINT_URL": ("http://u:{}@127.0.0.1:1",),
    "TOGETHER_BASE_URL": ("http://u:{}@127.0.0.1:1", "file:///etc/passwd", "http://169.254.169.254/{}"),
    "HF_ENDPOINT": ("http://u:{}@127.0.0.1:1", "ftp://{}"),
}
_AWS = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def _asking(variable: str) -> Callable[[Path], Arguments]:
    def build(folder: Path) -> Arguments:
        tiny(folder)
        if variable.startswith(("AWS", "SSL", "HTTPS")):
            return [
                "publish",
                *check()[1:],
                "--to",
                "s3://bucket/p/",
                "--endpoint-url",
                "http://127.0.0.1:1",
                "--format",
                "json",
            ]
        if variable.startswith("HF"):
            return ["check", "hf://org/repo"]
        return ["status", "job-1"]

    return build


def _variables() -> list[Case]:
    made = []
    for variable, forms in _VARIABLES.items():
        for form in forms:
            environment = {
                **_AWS,
                "TOGETHER_BASE_URL": "http://127.0.0.1:1",
                "TOGETHER_API_KEY": "key",
                "HF_ENDPOINT": "http://127.0.0.1:1",
            }
            environment[variable] = form.replace("{}", CANARY)
            exits = frozenset({UNREADABLE, INCONCLUSIVE, UPLOAD, 5})
            made.append(Case("variable", f"{variable}={form!r}", _asking(variable), exits, environment))
    return made


def _streams() -> list[Case]:
    commands: dict[str, Build] = {
        "check": _given(*check()),
        "check json": _given(*check("--format", "json")),
        "pack": _given("pack", *check()[1:], "--output", "a.zip"),
        "rule": _given("rule"),
        "--help": _given("--help"),
        "check --help": _given("check", "--help"),
        "--version": _given("--version"),
        "usage error": _given("check", "--nothing"),
    }  # fmt: skip
    closed = frozenset({OK, FAILED, UNREADABLE, 70, 74, 141})
    return [
        Case(
            "stream",
            f"{name}, {stdout} stdout",
            build,
            closed,
            stdout=stdout,
            silent=stdout == "closed",
            leaves=("a.zip",),
        )
        for name, build in commands.items()
        for stdout in ("closed", "full")
    ]


_CIRCLES = (
    ["check", "loop"],
    ["pack", "loop"],
    ["fix", "loop"],
    ["verify", "loop"],
    ["verify", "a", "--receipt", "loop"],
    ["diff", "loop", "a"],
    ["publish", "loop", "--to", "s3://bucket/"],
    ["check", "a", "--base-config", "./loop"],
    [*check(), "--html", "loop"],
    ["pack", *check()[1:], "--output", "loop"],
    ["fix", "a", "--output", "loop"],
    ["wait", "--receipt", "loop"],
)


def _circles() -> list[Case]:
    """A link that leads round in a circle, wherever a path is given."""

    def build(arguments: Arguments) -> Build:
        def made(folder: Path) -> Arguments:
            tiny(folder)
            (folder / "loop").symlink_to("loop")
            return arguments

        return made

    rows = [(f"a link in a circle: {' '.join(one)[-50:]}", build(one)) for one in _CIRCLES]
    return cases("path", rows, exits=frozenset({FAILED, UNREADABLE, INCONCLUSIVE, UPLOAD}), environment=_AWS)


def _signals() -> list[Case]:
    made = []
    for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        for after in (0.1, 0.2, 0.3, 0.4):
            made.append(
                Case(
                    "signal",
                    f"{sent.name} after {after} s",
                    _given("pack", *check()[1:], "--output", "a.zip"),
                    frozenset({OK, 130}),
                    signal_after=(sent, after),
                    leaves=("a.zip",),
                    silent=True,
                )
            )
    return made


def all_cases() -> list[Case]:
    """Return the cases."""
    paths = [
        (f"path with {what}, {command}{', broken' if broken else ''}", _at(name, broken, command))
        for what, name in _NAMES.items()
        for command in ("check", "pack")
        for broken in (False, True)
    ]
    bases = [(f"--base-model: {what}", _given(*check("--base-model", name))) for what, name in _BASES.items()]
    refused = frozenset({UNREADABLE, INCONCLUSIVE, UPLOAD, 5})
    return [
        *cases("path", paths, exits=frozenset({OK, FAILED, UNREADABLE, UPLOAD}), leaves=("*.zip",)),
        *cases(
            "usage",
            _USAGE,
            exits=refused,
            environment={"TOGETHER_API_KEY": "key", "TOGETHER_BASE_URL": "http://127.0.0.1:1", **_AWS},
        ),
        *cases("usage", _SEVERAL, exits=frozenset({FAILED, INCONCLUSIVE})),
        *cases("usage", bases, exits=frozenset({OK, FAILED, UNREADABLE, INCONCLUSIVE})),
        *_circles(),
        *_variables(),
        *_streams(),
        *_signals(),
    ]
