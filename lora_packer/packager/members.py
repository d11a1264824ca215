"""What goes into an archive: an allow-list. All else in the folder is named, with the reason why it stays behind."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

from lora_packer.errors import InputError, PackError
from lora_packer.frozen import frozen
from lora_packer.misplaced import next_step
from lora_packer.names import CONFIG_NAME, EXTRAS, REQUIRED
from lora_packer.packager.archive import LeftOut
from lora_packer.packager.source import Source
from lora_packer.redact import credential_in, escape

# Bytes of an optional file that are looked through: all of a model card, the beginning of a large vocabulary.
_MOST_TEXT = 1 << 20
# How many entries of a folder are looked at: an adapter has a dozen.
MAX_ENTRIES = 1000

# Why a file stays behind, by its name in lower case; the first that fits.
_SECRET = "it may hold a secret"  # noqa: S105 - a reason, not a password
_HIDDEN = "it is hidden"
_REASONS: tuple[tuple[str, str], ...] = (
    (_SECRET, ".env* .netrc .npmrc .pypirc .git-credentials .aws .ssh *.pem *.key *.p12 *.pfx id_* credentials*"),
    (_SECRET, "secret* token token.txt *_token *_token.txt"),
    (_HIDDEN, ".*"),
    ("it is training state", "training_args.* trainer_state.json optimizer* scheduler* scaler* rng_state*"),
    ("it is training state", "checkpoint-* global_step* runs wandb *.tfevents.* events.out.*"),
    (
        "it is a pickle, which can run code when it is opened",
        "*.bin *.pt *.pth *.pkl *.pickle *.ckpt *.joblib *.npz *.npy *.dill",
    ),
    ("it is code", "*.py *.pyc *.ipynb *.sh *.bat *.js *.so *.so.* *.dll *.dylib *.exe"),
    ("it is an archive", "*.zip *.tar *.tar.* *.tgz *.7z *.rar"),
)
_KINDS = {
    "folder": "it is a folder; only files at the root are packed",
    "link": "it is a symbolic link",
    "special": "it is no regular file",
}


@frozen
class Selection:
    """The files to pack, in the archive's order, and what stays behind."""

    sources: tuple[Source, ...]
    left_out: tuple[LeftOut, ...]


def select(folder: Path, *, include_extras: bool = False, allow_credentials: bool = False) -> Selection:
    """Decide what of an adapter's folder is packed. Of files that are optional, the text is looked through for tokens.

    Args:
        folder: the adapter's folder.
        include_extras: also pack the files of ``EXTRAS`` that are there.
        allow_credentials: take what looks like a token in one of these for none.

    Raises:
        InputError: there is no such folder.
        PackError: a required file is missing, or a file may not be packed as it is.
    """
    root = _root(folder)
    entries, is_all = _scan(root)
    allowed = (*REQUIRED, *sorted(EXTRAS)) if include_extras else REQUIRED
    names = [name for name in allowed if os.path.lexists(root / name)]
    for name in REQUIRED:
        if name not in names:
            raise PackError(f"{_show(folder)} has no {name}.", hint=_missing_hint(root, name, entries))
    _refuse_twins(names, entries)
    sources = tuple(_locate(root, name) for name in names)
    for source in sources:
        if source.name not in REQUIRED and not allow_credentials:
            _refuse_credential(source)
    left_out = [LeftOut(escape(name), _reason(name, entries[name])) for name in sorted(entries.keys() - set(names))]
    if not is_all:
        left_out.append(LeftOut("…", f"the folder has more than {MAX_ENTRIES} entries; the rest was not looked at"))
    return Selection(sources, tuple(left_out))


def _refuse_credential(source: Source) -> None:
    """Raise PackError where an optional file holds a token: whoever gets the archive gets it."""
    with source.open() as descriptor:
        text = source.read(descriptor, 0, min(source.size, _MOST_TEXT)).decode("utf-8", "replace")
    found = credential_in(text)
    if found is not None:
        raise PackError(
            f"{source.name} has what looks like {found} in it.",
            hint="Revoke it and take it out of the file, or pack without --include-extras. Where it is none: "
            "--ignore LP108.",
        )


def _root(folder: Path) -> Path:
    try:
        root = folder.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise InputError(f"There is no folder {_show(folder)}.", hint="Give the folder of the adapter.") from error
    if not root.is_dir():
        raise InputError(f"{_show(folder)} is not a folder.", hint=f"Give the folder with {CONFIG_NAME} in it.")
    return root


def _scan(root: Path) -> tuple[Mapping[str, str], bool]:
    """Return the kinds of the folder's entries by name, and whether these are all."""
    try:
        with os.scandir(root) as found:
            entries = {entry.name: _kind(entry) for entry in islice(found, MAX_ENTRIES)}
            return entries, next(found, None) is None
    except OSError as error:
        raise InputError(
            f"{_show(root)} cannot be read: {error.strerror}.", hint="Make sure that you may read the folder."
        ) from error


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else "special"


def _reason(name: str, kind: str) -> str:
    if name in EXTRAS:
        return "it is optional, and extras were not asked for"
    return _reason_by_name(name) or _KINDS.get(kind) or "it is no file that loaders of adapters know"


def _reason_by_name(name: str) -> str | None:
    for reason, patterns in _REASONS:
        if any(fnmatchcase(name.lower(), pattern) for pattern in patterns.split()):
            return reason
    return None


def _refuse_twins(names: Iterable[str], entries: Iterable[str]) -> None:
    """Refuse names that some file systems take for the same: which of the two is meant is not ours to guess."""
    by_key = {_key(name): name for name in names}
    for entry in sorted(entries):
        name = by_key.get(_key(entry))
        if name is not None and name != entry:
            raise PackError(
                f"{name} and {escape(entry)} differ in letter case or Unicode form only.", hint="Remove one of them."
            )


def _key(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _locate(root: Path, name: str) -> Source:
    """Return the regular file behind ``name``, following a link only where it stays with the adapter."""
    path = root / name
    if not path.is_symlink():
        return Source.at(path)
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise PackError(f"{name} is a symbolic link that leads nowhere.", hint="Put the file itself there.") from error
    if target.is_relative_to(root):
        allowed = not any(_reason_by_name(part) in (_SECRET, _HIDDEN) for part in target.relative_to(root).parts)
    else:
        allowed = any(target.is_relative_to(store) for store in _blob_stores(root))
    if not allowed:
        raise PackError(
            f"{name} is a symbolic link to {_show(target)}, which is no part of the adapter.",
            hint="Copy the file into the folder if it is meant to be packed.",
        )
    return Source.at(target, name)


def _blob_stores(root: Path) -> list[Path]:
    """Return where the links of a Hugging Face cache snapshot may lead; nothing where ``root`` is none.

    ``<cache>/models--org--name/snapshots/<revision>/file`` links to ``models--org--name/blobs/<etag>``, which may
    itself be a link into ``<cache>/blobs``, shared by all repositories and marked by a file as huggingface_hub's
    (``huggingface_hub/file_download.py`` and ``utils/_shared_blobs.py`` of huggingface_hub 2.4.0).
    """
    for revision in (root, *root.parents):
        repository = revision.parent.parent
        if revision.parent.name == "snapshots" and (repository / "blobs").is_dir():
            shared = repository.parent / "blobs"
            is_marked = (shared / ".huggingface-shared-blobs").is_file()
            return [repository / "blobs", shared] if is_marked else [repository / "blobs"]
    return []


def _missing_hint(root: Path, name: str, entries: Mapping[str, str]) -> str:
    for entry in sorted(entries):
        if _key(entry) == _key(name):
            return f"Rename {escape(entry)} to {name}."
    below = [
        f"{entry}/{item}"
        for entry, kind in sorted(entries.items())
        if kind == "folder"
        for item in REQUIRED
        if os.path.lexists(root / entry / item)
    ]
    return next_step(name, (*sorted(entries), *below), "folder")


def _show(path: Path) -> str:
    return escape(str(path))
