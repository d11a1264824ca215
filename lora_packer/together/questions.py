"""What a deployed model is asked, and what is expected of its answers."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from contextlib import nullcontext
from dataclasses import field
from difflib import get_close_matches
from pathlib import Path

from lora_packer.errors import InputError
from lora_packer.frozen import frozen
from lora_packer.redact import escape
from lora_packer.together.asking import Answer, Asking

_FIELDS = ("prompt", "expect", "system")
_MAX_FILE = 4 * 2**20  # bytes
_MAX_PROMPTS = 500


@frozen
class Prompt:
    """A question.

    Attributes:
        text: the question itself.
        expect: a regular expression that has to be found in the answer; None is no expectation.
        system: the system's message before it, instead of the one for all.

    Raises InputError where ``expect`` is no regular expression.
    """

    text: str
    expect: str | None = None
    system: str | None = None

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise InputError("A prompt is empty.", hint="Ask something.")
        try:
            re.compile(self.expect or "")
        except re.error as error:
            raise InputError(
                f"'{escape(self.expect or '', 100)}' is not a regular expression: {error}.",
                hint="Correct it, or escape what is meant as it stands with a backslash.",
            ) from None

    @property
    def digest(self) -> str:
        """The SHA-256 of the question with its system's message: what a receipt has in its place."""
        return hashlib.sha256(f"{self.system or ''}\0{self.text}".encode()).hexdigest()

    def is_met(self, answer: Answer) -> bool | None:
        """Whether the answer is as expected; None where nothing is expected."""
        return None if self.expect is None else re.search(self.expect, answer.text) is not None


@frozen
class Questions:
    """What is asked.

    Attributes:
        prompts: the questions, one at least.
        asking: how they are asked.
        compare_base: whether the base model is asked the same.

    Raises InputError where they do not go together.
    """

    prompts: tuple[Prompt, ...]
    asking: Asking = field(default_factory=Asking)
    compare_base: bool = False

    def __post_init__(self) -> None:
        if not self.prompts:
            raise InputError("There is nothing to ask.", hint="Give a prompt, or --prompts with a file of them.")
        if self.compare_base and self.asking.temperature:
            raise InputError(
                "Only the likeliest answers can be compared: --compare-base asks at temperature 0.",
                hint="Leave out --temperature.",
            )

    @property
    def is_test(self) -> bool:
        """Whether the answers are judged, or there are several."""
        return self.compare_base or len(self.prompts) > 1 or any(one.expect is not None for one in self.prompts)


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Return the prompts of a JSON Lines file, each with ``prompt``, and where given ``expect`` and ``system``.

    ``-`` is standard input. Raises InputError.
    """
    try:
        # No more than this is ever read: a device or a pipe tells no size, and need not end.
        with nullcontext(sys.stdin) if str(path) == "-" else path.open(encoding="utf-8-sig") as stream:
            text = stream.read(_MAX_FILE + 1)
        if len(text) > _MAX_FILE:
            raise InputError(f"The prompts {str(path)!r} are larger than {_MAX_FILE} bytes.", hint="Ask fewer.")
        lines = text.splitlines()
    except OSError as error:
        raise InputError(
            f"The prompts {str(path)!r} cannot be read: {error.strerror}.", hint="Check the path."
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"The prompts {str(path)!r} are not UTF-8 text.", hint="Save the file as UTF-8.") from None
    found = tuple(_prompt(line, f"line {number}") for number, line in enumerate(lines, 1) if line.strip())
    if not 0 < len(found) <= _MAX_PROMPTS:
        raise InputError(
            f"The file {str(path)!r} holds {len(found)} prompts.", hint=f"One at least, {_MAX_PROMPTS} at the most."
        )
    return found


def _prompt(line: str, where: str) -> Prompt:
    """One line of a file. A field that looks like one of ours and is not would be an expectation that nobody checks."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("prompt"), str):
        raise InputError(
            f"In the prompts, {where} is not a JSON object with a 'prompt'.",
            hint='Write each on a line of its own, like {"prompt": "2+2?", "expect": "4"}.',
        )
    for name in value:
        close = get_close_matches(str(name).lower(), _FIELDS, 1, 0.75)
        if name not in _FIELDS and close:
            raise InputError(
                f"In the prompts, {where} has a field '{escape(str(name), 40)}', which means nothing here.",
                hint=f"Call it '{close[0]}', or otherwise.",
            )
    texts = {name: value.get(name) for name in ("expect", "system")}
    for name, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise InputError(f"In the prompts, '{name}' of {where} is not text.", hint="Put it in quotes.")
    return Prompt(value["prompt"], texts["expect"], texts["system"])
