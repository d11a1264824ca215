"""What ``--help`` looks like: options by what they are about, examples, and the environment variables that count."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand

from lora_packer.cli.plain_values import take_plain_values
from lora_packer.cli.settable import settable
from lora_packer.cli.settings import defaults_for

# Section -> its options, in the order of the help. What is in none of them is told under "Options".
_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "The model": ("model_name", "base_model", "description"),
    "The check": (
        "base_config",
        "target",
        "target_file",
        "no_check",
        "no_weights",
        "stats",
        "select",
        "ignore",
        "fail_on",
    ),
    "The repair": ("folder", "diff", "allow", "base_weights"),
    "The archive": ("archive", "compress", "include_extras"),
    "The store": (
        "to",
        "expires_in",
        "endpoint_url",
        "allow_private_endpoint",
        "verify",
        "url_file",
        "show_url",
        "journal",
        "clean",
    ),
    "The service": (
        "api",
        "direct",
        "wait",
        "timeout",
        "deploy",
        "hardware",
        "ask",
        "delete",
        "min_replicas",
        "max_replicas",
        "inactive_timeout",
        "attach",
        "dry_run",
    ),
    "The rehearsal": ("sandbox", "fail", "v1_endpoints", "hub", "env_file"),
    "Many adapters": ("manifest", "jobs", "executor"),
    "Configuration": ("config", "isolated"),
    "Output": ("receipt", "output_file", "html", "format", "quiet", "verbose", "no_color", "help"),
}
_SECTION_OF = {name: section for section, names in _SECTIONS.items() for name in names}
_WIDEST_TERM, _NARROWEST = 28, 20  # characters of the two columns of a section
_TYPE = re.compile(r" <(?:str|list\[str\])>$")  # what typer writes behind an argument
_ARGUMENTS, _OPTIONS = "Arguments", "Options"

_NAMES = "--model-name my-adapter --base-model meta-llama/Llama-3.3-70B-Instruct"
EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "check": (
        "lora-packer check my-adapter",
        "lora-packer check my-adapter --base-config path/to/base/config.json --target peft",
        "lora-packer check hf://org/my-adapter --format json",
        "lora-packer check my-adapter --html report.html",
        "lora-packer check adapters/*/ --no-weights --quiet",
        "lora-packer check --manifest adapters.csv --format json --output report.json",
    ),
    "fix": (
        "lora-packer fix my-adapter --base-config path/to/base/config.json --diff",
        "lora-packer fix my-adapter --output my-adapter-mended",
    ),
    "diff": (
        "lora-packer diff checkpoint-1000 checkpoint-2000",
        "lora-packer diff hf://org/my-adapter my-adapter --fail-above 50",
    ),
    "pack": ("lora-packer pack my-adapter", "lora-packer pack my-adapter --output my-adapter.tar.gz"),
    "publish": (
        "lora-packer publish my-adapter --to s3://bucket/adapters/ --url-file my.url",
        "lora-packer publish my-adapter --to s3://bucket/adapters/ --quiet --show-url",
        "lora-packer publish --clean --to s3://bucket/adapters/",
    ),
    "presign": ("lora-packer presign s3://bucket/adapters/my-adapter.zip --url-file my.url",),
    "submit": (
        f"lora-packer submit --url-file my.url {_NAMES} --wait",
        f"lora-packer submit hf://org/my-adapter {_NAMES} --skip-existing",
    ),
    "status": ("lora-packer status job-1234",),
    "wait": ("lora-packer wait job-1234 --timeout 2h",),
    "hardware": ("lora-packer hardware account/my-adapter",),
    "deploy": ("lora-packer deploy account/my-adapter --dry-run", "lora-packer deploy account/my-adapter --wait"),
    "ask": ("lora-packer ask endpoint-1234 'What is LoRA?'",),
    "stop": ("lora-packer stop endpoint-1234",),
    "release": (
        f"lora-packer release my-adapter {_NAMES} --to s3://bucket/adapters/",
        f"lora-packer release my-adapter {_NAMES} --sandbox",
        f"lora-packer release hf://org/my-adapter {_NAMES} --deploy --ask Hello",
        f"lora-packer release my-adapter {_NAMES} --to s3://bucket/adapters/ --skip-existing",
    ),
    "verify": (
        "lora-packer verify my-adapter.zip --receipt my-adapter.receipt.json",
        "lora-packer verify my-adapter.zip --format json",
    ),
    "identify": ("lora-packer identify my-adapter",),
    "models": ("lora-packer models", "lora-packer models account/my-adapter"),
    "endpoints": ("lora-packer endpoints",),
    "rule": ("lora-packer rule", "lora-packer rule LP306"),
    "sandbox": ("lora-packer sandbox --env-file sandbox.env",),
}

_SERVICE = {
    "TOGETHER_API_KEY": "the key of the service",
    "TOGETHER_PROJECT_ID": "the project, where the key does not tell it",
    "TOGETHER_BASE_URL": "another address of the service",
}
_HUB = {
    "HF_TOKEN": "reads private and gated repos",
    "HF_ENDPOINT": "a mirror of the Hub",
    "HF_HUB_OFFLINE": "1: no Hub",
}
_STORE = {
    "AWS_PROFILE, AWS_...": "AWS's own chain of credentials",
    "AWS_ENDPOINT_URL_S3": "a store other than AWS",
}
_COLORS = {"NO_COLOR, FORCE_COLOR": "1: no colours; colours in a pipe too"}
ENVIRONMENT: Mapping[str, Mapping[str, str]] = {
    "check": _HUB | _COLORS,
    "identify": _HUB | _COLORS,
    "diff": _STORE | _HUB | _COLORS,
    "verify": _STORE | _HUB | _COLORS,
    "pack": _HUB | _COLORS,
    "publish": _STORE | _HUB | _COLORS,
    "presign": _STORE,
    "submit": _SERVICE | _HUB,
    "release": _SERVICE | _STORE | _HUB | _COLORS,
    **dict.fromkeys(("status", "wait", "hardware", "deploy", "ask", "stop", "models", "endpoints"), _SERVICE),
}


# What the parser raises for a command line that it does not take; its module is another in each release of typer.
Misuse: type[Exception] = typer.BadParameter.__mro__[1]


class Command(TyperCommand):
    """A command whose help is in sections, and whose options may stand in a file."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse a command line; what it does not give is taken from the settings. Raises InputError, UsageError."""
        take_plain_values(self.get_params(ctx), self.callback)
        if not ctx.resilient_parsing:  # as where a shell completes
            try:
                given = self.make_parser(ctx).parse_args(args=list(args))[0]
            except Misuse:  # told below, in the format that the settings ask for
                given = {"isolated": any(word.startswith(("--config", "--isolated")) for word in args)}
            if not given.get("help"):
                own = settable(self.callback) if self.callback else {}
                named, isolated = given.get("config"), bool(given.get("isolated"))
                ctx.default_map = defaults_for(self.name or "", own, ctx.obj or dict, named=named, isolated=isolated)
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Write the usage; an argument is named without brackets where it has to be given."""
        formatter.write_usage(ctx.command_path, self.usage(ctx))

    def usage(self, ctx: Any) -> str:
        """Return what stands behind the command's name."""
        pieces = (piece.strip("{}") for piece in self.collect_usage_pieces(ctx))
        return " ".join(piece.replace("...]...", "...]") for piece in pieces)

    def sections(self, ctx: Any) -> dict[str, list[tuple[str, str]]]:
        """Return the arguments and options by what they are about: section -> (what is written, what it means)."""
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in (_ARGUMENTS, _OPTIONS, *_SECTIONS)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                is_argument = parameter.param_type_name == "argument"
                section = _ARGUMENTS if is_argument else _SECTION_OF.get(parameter.name or "", _OPTIONS)
                sections[section].append((_TYPE.sub("", record[0]), record[1]))
        return {name: rows for name, rows in sections.items() if rows}

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options by what they are about."""
        for name, rows in self.sections(ctx).items():
            with formatter.section(name):
                write_rows(formatter, rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - click's own signature
        """Write the examples, each on a line that can be copied, and the environment."""
        name = self.name or ""
        if name in EXAMPLES:
            with formatter.section("Examples"):
                indent = " " * formatter.current_indent
                for example in EXAMPLES[name]:
                    formatter.write("".join(f"{indent}{line}\n" for line in _folded(example, formatter.width)))
        if name in ENVIRONMENT:
            with formatter.section("Environment"):
                write_rows(formatter, list(ENVIRONMENT[name].items()))


def help_width() -> int:
    """Return how many columns a help takes: those of the terminal, 78 at the most."""
    return max(min(shutil.get_terminal_size((80, 24)).columns, 80), 30) - 2


def write_rows(formatter: Any, rows: Sequence[tuple[str, str]]) -> None:
    """Write terms with their explanations beside them; unlike click's own, no word is split at a hyphen."""
    indent = " " * formatter.current_indent
    column = min(max(len(term) for term, _ in rows), _WIDEST_TERM) + 2
    if formatter.width - len(indent) - column < _NARROWEST:  # then under it
        column = 4
    for term, text in rows:
        wide = max(formatter.width - len(indent) - column, _NARROWEST)
        lines = textwrap.wrap(text, wide, break_on_hyphens=False, break_long_words=False) or [""]
        if len(term) + 2 > column:
            formatter.write(f"{indent}{term}\n")
            term = ""
        for line in lines:
            formatter.write(f"{indent}{term:<{column}}{line}".rstrip() + "\n")
            term = ""


def _folded(example: str, width: int) -> list[str]:
    """A command line over as many lines as it takes, each but the last with a backslash, to be copied as they are."""
    lines = [""]
    for words in example.replace(" --", "\n--").split("\n"):
        if lines[-1] and len(lines[-1]) + len(words) > width - 6:
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += f" {words}" if lines[-1] else words
    return lines
