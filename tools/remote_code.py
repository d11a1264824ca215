"""Model code from a package on PyPI, imported where what it needs beside torch and transformers is not installed.

Nothing but the files of one folder is taken from an archive, and its code is run: only ``proof_remote_listed.py`` says
which. Each is compared by the digest that is written there.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock


class _Nothing:
    """What a module that is not there has: a decorator, a function, a logger, whatever is asked of it."""

    def __call__(self, *args: Any, **named: Any) -> Any:
        return args[0] if len(args) == 1 and not named and callable(args[0]) else self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __bool__(self) -> bool:
        return False


class _Kind(type):
    """A class that is not there: it can be inherited from, and has whatever is asked of it."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing()


class _Kept:
    """What is made of a class that is not there."""

    def __init__(self, *_args: Any, **_named: Any) -> None: ...


def _stand_in(name: str) -> Any:
    return _Kind(name, (_Kept,), {}) if name.lstrip("_")[:1].isupper() else _Nothing()


class _Absent(ModuleType):
    """A module that is not there."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = _stand_in(name)
        setattr(self, name, found)
        return found


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what nobody else does below these packages: modules with whatever is asked of them."""

    def __init__(self, packages: Sequence[str], stand_ins: Mapping[str, Mapping[str, Any]]) -> None:
        self.packages, self.stand_ins = tuple(packages), stand_ins

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:  # noqa: ARG002 - the protocol
        if fullname.partition(".")[0] in self.packages:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> ModuleType:
        """An empty module that has whatever is asked of it."""
        return _Absent(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Put in what is listed for it; nothing is run."""
        vars(module).update(self.stand_ins.get(module.__name__, {}))


def fetched(package: str, folder: str, cache: Path) -> Path:
    """Return where a folder of a package's Python files is, from PyPI unless it was fetched before."""
    own = cache / package
    if not (own / folder).is_dir():
        archives = cache / "archives" / package
        if not archives.is_dir():
            archives.mkdir(parents=True)
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
            subprocess.run([*pip, "--dest", str(archives), package], check=True)
        for name, data in _python_files(next(archives.iterdir()), folder):
            path = own / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return own / folder


def _python_files(archive: Path, folder: str) -> Iterator[tuple[str, bytes]]:
    """Yield the Python files right inside a folder of a wheel or an sdist: (name, content)."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in wheel.namelist():
                if name.rpartition("/")[0] == folder and name.endswith(".py"):
                    yield name.rpartition("/")[2], wheel.read(name)
        return
    with tarfile.open(archive) as sdist:
        for member in sdist:
            inside = member.name.partition("/")[2]
            if member.isfile() and inside.rpartition("/")[0] == folder and inside.endswith(".py"):
                file = sdist.extractfile(member)
                if file is not None:
                    yield inside.rpartition("/")[2], file.read()


def digest(folder: Path, names: Sequence[str]) -> str:
    """Return the first 16 digits of the SHA-256 of these files, one after the other."""
    whole = b"".join((folder / f"{name}.py").read_bytes() for name in names)
    return hashlib.sha256(whole).hexdigest()[:16]


def imported(
    folder: Path,
    names: Sequence[str],
    absent: Sequence[str],
    without: Sequence[str],
    stand_ins: Mapping[str, Mapping[str, Any]],
) -> dict[str, ModuleType]:
    """Import these files of a folder as a package of its own.

    ``absent`` are packages to do without, ``without`` files; ``stand_ins`` has what matters of their modules.
    """
    package = f"remote_{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    # Files may ask for what lies up to three folders above their own.
    below = ".".join((package, "a", "b", "c"))
    if not any(isinstance(finder, _Finder) and package in finder.packages for finder in sys.meta_path):
        sys.meta_path.append(_Finder((package, *absent), stand_ins))
    for path in folder.glob("*.py"):
        _complete(ast.parse(path.read_text(encoding="utf-8")))
    parent = ModuleType(below)
    parent.__path__ = [str(folder)]
    importlib.import_module(below.rpartition(".")[0])
    sys.modules[below] = parent
    # Or for one of their own folder by its name.
    sys.modules[f"{below.rpartition('.')[0]}.{folder.name}"] = parent
    for name in without:
        sys.modules[f"{below}.{name}"] = _Absent(f"{below}.{name}")
    with ExitStack() as stack:
        for name, found in stand_ins.items():
            if name.partition(".")[0] not in absent:  # a release of transformers has another class of that name
                stack.enter_context(mock.patch.multiple(name, **found))
        return {name: importlib.import_module(f"{below}.{name}") for name in names}


def _complete(tree: ast.Module) -> None:
    """Give transformers and torch the names that a file takes of them, and that a later release has no more."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node.level or node.module is None:
            continue
        if node.module.partition(".")[0] not in ("transformers", "torch"):
            continue
        try:
            module = importlib.import_module(node.module)
        except ImportError:
            module = sys.modules[node.module] = _Absent(node.module)
        for item in node.names:
            try:
                getattr(module, item.name)
            except (AttributeError, ImportError):
                setattr(module, item.name, _stand_in(item.name))
