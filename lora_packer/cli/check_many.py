"""``check`` of several adapters: what is asked, who works, and what is printed when."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_packer.cli.common import CheckOutput, Output
from lora_packer.cli.documents import Told, tell
from lora_packer.cli.ends import print_result
from lora_packer.cli.named_files import require_place
from lora_packer.cli.page import Page, without_sizes
from lora_packer.cli.streams import folded
from lora_packer.files import exists

if TYPE_CHECKING:
    from lora_packer.cli.options import Many
    from lora_packer.inspector.many import Listed, Result

_EXIT_CODES = {"ok": 0, "failed": 1, "inconclusive": 3}


def check_them(
    adapters: Sequence[str],
    many: Many,
    options: dict[str, Any],
    output_file: Path | None,
    page: Page,
    output: CheckOutput,
) -> int:
    """Check adapters, print what is to be printed, and return the exit code. Raises InputError."""
    from lora_packer.inspector.many import Listed, filled, overall, prepared, summary_of
    from lora_packer.workers import open_executor

    asked = options["stats"] is True
    defaults = Listed("", *(options.pop(name) for name in ("base_model", "base_config", "target")))
    listed = [filled(item, defaults) for item in _listed(adapters, many.manifest)]
    for item in listed:
        require_place(output_file, "--output", str(item.adapter))
        page.require_place(str(item.adapter))
    if many.executor is not None:
        listed = [_anywhere(item) for item in listed]
    with nullcontext() if many.executor is None else open_executor(many.executor) as executor:
        ended = prepared(listed, options, executor=executor, jobs=many.jobs)
        results = _told(ended, len(listed), output, silent=output_file is not None or page.is_stdout, stats=asked)
    page.write(results)
    told = [without_sizes(result, asked=asked) for result in results]
    summary = summary_of(told)
    exit_code = _EXIT_CODES[overall(summary)]
    if output_file is not None or not output.is_text:
        tell(Told(told, options["fail_on"], exit_code, are_many=True), output, output_file)
    elif not output.quiet and not page.is_stdout:
        from lora_packer.report.several import total

        print_result(folded(total(summary, output), sys.stdout))
    return exit_code


def _listed(adapters: Sequence[str], manifest: str | None) -> Iterator[Listed]:
    """What the command line names, then what the manifest lists."""
    from lora_packer.inspector.manifest import MAX_BYTES, parse_manifest, read_manifest
    from lora_packer.inspector.many import Listed

    yield from (Listed(adapter) for adapter in adapters)
    if manifest == "-":
        stream = getattr(sys.stdin, "buffer", None)
        data = stream.read(MAX_BYTES + 1) if stream is not None else sys.stdin.read(MAX_BYTES + 1).encode()
        yield from parse_manifest(data, "on standard input")
    elif manifest is not None:
        yield from read_manifest(manifest)


def _anywhere(item: Listed) -> Listed:
    """The same adapter for a worker whose working folder is another."""
    base_config = item.base_config
    if isinstance(base_config, str) and exists(Path(base_config)):
        base_config = str(Path(base_config).absolute())
    adapter = str(item.adapter)
    return replace(
        item, adapter=adapter if "://" in adapter else str(Path(adapter).absolute()), base_config=base_config
    )


def _told(
    results: Iterator[tuple[int, Result]], count: int, output: Output, *, silent: bool, stats: bool
) -> list[Result]:
    """Return the results in the order given; for a person each is printed: as it ends, or in that order."""
    from lora_packer.report.several import block, line

    found: dict[int, Result] = {}
    following = 0
    for at, result in results:
        found[at] = result
        if silent or not output.is_text:
            continue
        if output.quiet:
            print_result(folded(line(result, output), sys.stdout))
            continue
        while following in found:
            print_result(folded(block(without_sizes(found[following], asked=stats), output), sys.stdout))
            following += 1
    return [found[at] for at in range(count)]
