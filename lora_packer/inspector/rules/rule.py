"""What a rule is: one declaration, read by the checks, by ``lora-packer rule``, by the README's table and by the tests.

A code never changes its meaning. Groups: 1 files, 2 config, 3 tensors against the base model, 4 values, 5 the target.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from lora_packer.finding import Finding, Severity
from lora_packer.frozen import frozen
from lora_packer.redact import escape, scrub

Needs = Literal["files", "base", "values"]
SAME_FIELD = "the same field"
MAX_MESSAGE = 360  # characters: with its code and its name a message is a line of 400


class Effect(NamedTuple):
    """A finding that is no second cause beside another one.

    Attributes:
        code: its rule.
        field: the field that it is about, ``SAME_FIELD`` for the other one's, or None for any.
        severity: its severity, or None for any.
    """

    code: str
    field: str | None = None
    severity: Severity | None = None


# Another base model shows in sizes, names, modules, layers and the vocabulary at once.
OF_ANOTHER_BASE = (
    *(Effect(code) for code in ("LP301", "LP307", "LP309", "LP311", "LP316", "LP317")),
    Effect("LP318", severity="error"),
)


@frozen
class Rule:
    """One rule.

    Attributes:
        code: stable, ``LP`` and three digits.
        name: short, for people.
        severity: of its findings, where a target does not say otherwise.
        summary: what it finds, one line.
        why: what happens to an adapter like that.
        fix: what to do.
        needs: what has to be at hand to check it: the files, the base model's config, or the tensors' values.
        fixable: whether a lossless repair exists.
        explains: what an error of this rule also makes of a file, and what is then not told as a finding of its own.
        retold: how a finding of this rule is told in the message of one that explains it; "" where it is not.
    """

    code: str
    name: str
    severity: Severity
    summary: str
    why: str
    fix: str
    needs: Needs = "files"
    fixable: bool = False
    explains: tuple[Effect, ...] = ()
    retold: str = ""

    @property
    def is_about_the_config(self) -> bool:
        """Whether its findings are about ``adapter_config.json``."""
        return self.code.startswith("LP2")

    def finding(self, message: str, **details: Any) -> Finding:
        """Return a finding of this rule; ``details`` are fields of Finding and override the rule's own.

        ``tensors``, names as the file has them, also give the first tensor and the count, where these are not given.
        The message is made fit for a line here too, whatever was written into it.
        """
        names = [escape(name) for name in details.pop("tensors", ())]
        if names:
            details = {"tensor": names[0], "count": len(names), **details, "tensors": tuple(names)}
        defaults: dict[str, Any] = {"severity": self.severity, "fixable": self.fixable, "hint": self.fix}
        given = {key: _unsecret(value) for key, value in details.items() if value is not None}
        text = escape(scrub(message), MAX_MESSAGE)
        return Finding(code=self.code, name=self.name, message=text, **{**defaults, **given})

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as ``lora-packer rule --format json`` prints it."""
        names = ("code", "name", "severity", "summary", "why", "fix", "needs", "fixable")
        return {name: getattr(self, name) for name in names} | {"explains": [effect.code for effect in self.explains]}


def _unsecret(value: Any) -> Any:
    return scrub(value) if isinstance(value, str) else value
