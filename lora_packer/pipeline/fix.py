"""``fix``: mend an adapter without loss into a new folder, and check what came out.

What this imports is little: the copy begins as soon as the adapter's header is read, and what reads the base model and
chooses the repairs is loaded while the kernel copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from lora_packer.adapter import AdapterSource, open_source
from lora_packer.arguments import require_codes, require_path, require_text
from lora_packer.errors import InputError
from lora_packer.files import followed, is_folder
from lora_packer.folders import new_folder, require_new
from lora_packer.names import EXTRAS, name_of
from lora_packer.pipeline import Progress
from lora_packer.pipeline.fixed import Asked, Fixed, Into
from lora_packer.redact import escape
from lora_packer.repair.ahead import begun
from lora_packer.repair.find import find
from lora_packer.targets import DEFAULT_TARGET

if TYPE_CHECKING:
    from lora_packer.arguments import BaseSource

__all__ = ["Fixed", "default_output", "fix"]


def fix(
    adapter: str | Path,
    output: str | Path | None = None,
    *,
    base_config: BaseSource | None = None,
    base_model: str | None = None,
    target: str = DEFAULT_TARGET,
    allow: Sequence[str] = (),
    base_weights: str | Path | None = None,
    diff: bool = False,
    progress: Progress | None = None,
) -> Fixed:
    """Mend what can be mended without loss, write it into a new folder, and check that.

    Args:
        adapter: a folder, a finished archive, or a Hub repository as ``hf://org/repo[@revision]``.
        output: the new folder; it must not be there, or be empty. Default: the adapter's name with ``-fixed``.
        base_config, base_model, target: as for ``check``.
        allow: the lossy repairs that are wanted besides, by name.
        base_weights: the base model's weights (a folder or a ``.safetensors`` file), to find copies of them.
        diff: whether to write nothing, and only say what would come out.
        progress: told (bytes written, bytes in all).

    Returns:
        What was mended, what was not, and the report of the check on the result.

    Raises:
        InputError: there is nothing to read, or the output is no place for a new folder.
        InconclusiveError: the Hub could not be asked for the adapter.
    """
    require_path(adapter, "adapter")
    require_text(target, "target")
    require_codes(allow, "allow")
    if output is not None:
        require_path(output, "output")
    place = Path(output) if output is not None else default_output(adapter)
    if not diff:
        _require_place(place, adapter)
    with _opened(adapter) as source:
        found = find(source, EXTRAS)
        asked = Asked(base_config, base_model, target, tuple(allow), base_weights)
        if diff:
            from lora_packer.pipeline.mending import mended

            return mended(found, source, asked, None)
        try:
            with new_folder(place) as folder, begun(found.draft, found.source, folder, progress) as ahead:
                from lora_packer.pipeline.mending import mended

                fixed = mended(found, source, asked, Into(place, folder, ahead, progress))
                if fixed.output is None:
                    raise _NothingKept
        except _NothingKept:
            pass
        return fixed


class _NothingKept(Exception):  # noqa: N818 - it is no error
    """What would come out is the adapter that fails, as it was: the new folder goes."""


def _opened(adapter: str | Path) -> AbstractContextManager[AdapterSource]:
    if _is_folder(adapter):
        return open_source(adapter)
    from lora_packer.inspector.opening import open_adapter

    return open_adapter(adapter)


def _is_folder(adapter: str | Path) -> bool:
    return "://" not in str(adapter) and is_folder(Path(adapter))


def default_output(adapter: str | Path) -> Path:
    """Return the folder beside an adapter that its mended form goes to; that of a remote one is made here."""
    if not _is_folder(adapter):
        from lora_packer.pipeline.place import remote_name

        name = remote_name(adapter)
        if name is not None:
            return Path(f"{name}-fixed")
    place = Path(adapter)
    if place.name in ("", ".."):  # it is called something only where it is
        place = followed(place)
    return place.parent / f"{name_of(place)}-fixed"


def _require_place(place: Path, adapter: str | Path) -> None:
    require_new(place, "--output")
    resolved = followed(place)
    if _is_folder(adapter) and followed(Path(adapter)) in (resolved, *resolved.parents):
        raise InputError(
            f"'{escape(str(place))}' is in the adapter's own folder, which is left as it is.",
            hint="Choose another --output.",
        )
