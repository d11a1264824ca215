"""Where a finding is, as a code scanner or a CI system wants it: a path below the checkout, and a line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from lora_packer.files import followed, is_folder
from lora_packer.names import CONFIG_NAME, WEIGHTS_NAME

if TYPE_CHECKING:
    from lora_packer.finding import Finding
    from lora_packer.inspector import Report


class Place(NamedTuple):
    """Where a finding is.

    Attributes:
        file: the adapter's file, such as ``adapter_config.json``.
        path: the path of that file, or of the archive that has it: below the checkout, else absolute, with ``/``
            between its parts. None: it is not on this machine.
        uri: the same as a relative or ``file:`` URI, percent-encoded.
        line: the line of the config's field, or 1.
    """

    file: str
    path: str | None
    uri: str
    line: int


def place_of(report: Report, finding: Finding) -> Place:
    """Return where a finding is."""
    file = finding.file or (CONFIG_NAME if _is_about_the_config(finding) else WEIGHTS_NAME)
    source = report.adapter.source
    if "://" in source:
        # With its colon encoded it is a relative URI: code scanning takes no other (rule GH1005 of sarif-multitool).
        return Place(file, None, quote(f"{source.rstrip('/')}/{file}"), 1)
    is_inside = is_folder(Path(source))
    path = below_checkout(os.path.join(source, file) if is_inside else source)  # noqa: PTH118 - a path as it was given
    uri = Path(path).as_uri() if Path(path).is_absolute() else quote(os.fsencode(path))
    line = report.lines.get(finding.field or "", 1) if is_inside and file == CONFIG_NAME else 1
    return Place(file, path, uri, line)


def _is_about_the_config(finding: Finding) -> bool:
    return finding.tensor is None and (finding.field is not None or finding.code.startswith("LP2"))


def below_checkout(given: str) -> str:
    """Return a path relative to the checkout where it is below that, else absolute; ``/`` stands between its parts.

    The checkout is what GITHUB_WORKSPACE names where this runs in it, else the working folder: to both, annotations
    and code scanning take a relative path to be relative
    (https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning).
    """
    here = Path.cwd()
    workspace = Path(os.environ.get("GITHUB_WORKSPACE") or here)
    root = workspace if here.is_relative_to(workspace) else here
    whole = Path(os.path.abspath(given))  # noqa: PTH100 - a link is what the checkout has, not what it leads to
    for path, above in ((whole, root), (followed(whole.parent) / whole.name, followed(root))):
        if path.is_relative_to(above):
            return path.relative_to(above).as_posix()
    return whole.as_posix()
