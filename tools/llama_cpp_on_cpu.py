"""llama.cpp's own converter of adapters, as the source distribution of llama-cpp-python has it: nothing is built.

It is Python, and wants torch, transformers and numpy. Of a base model it reads ``config.json`` alone.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import runpy
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

# The release of llama-cpp-python whose copy of llama.cpp is read.
RELEASE = "0.3.36"
_INSIDE = "vendor/llama.cpp"
_TAKEN = ("convert_lora_to_gguf.py", "conversion/", "gguf-py/gguf/")


def unpacked(cache: Path) -> Path:
    """Return the folder of llama.cpp's converters, downloaded where it is not there yet."""
    folder = cache / f"llama-cpp-{RELEASE}"
    if not (folder / "done").exists():
        cache.mkdir(parents=True, exist_ok=True)
        archives = sorted(cache.glob(f"llama_cpp_python-{RELEASE}.tar.gz"))
        if not archives:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
            subprocess.run([*command, f"--dest={cache}", f"llama-cpp-python=={RELEASE}"], check=True)
            archives = sorted(cache.glob(f"llama_cpp_python-{RELEASE}.tar.gz"))
        with tarfile.open(archives[0]) as archive:
            members = [item for item in archive if item.name.partition(f"/{_INSIDE}/")[2].startswith(_TAKEN)]
            archive.extractall(folder, members, filter="data")
        (folder / "done").touch()
    return next(folder.glob("*")).joinpath(_INSIDE) if not (folder / _INSIDE).exists() else folder / _INSIDE


def prepare(folder: Path) -> None:
    """Make the converter importable and quiet."""
    sys.path[:0] = [str(folder), str(folder / "gguf-py")]
    logging.disable(logging.CRITICAL)


_names: dict[Any, Any] = {}


def _as_released() -> None:
    """Undo what a class of its own names leaves in gguf's table: it is one for the process (tensor_mapping.py:2859)."""
    from gguf import TensorNameMap

    if not _names:
        _names.update(TensorNameMap.block_mappings_cfg)
    TensorNameMap.block_mappings_cfg = dict(_names)


def converter(config: Mapping[str, Any]) -> Any:
    """Return llama.cpp's model for a base config. Raises NotImplementedError for a class that it does not know."""
    import gguf
    from conversion import ModelType, get_model_architecture, get_model_class

    _as_released()
    made = get_model_class(get_model_architecture(dict(config), ModelType.TEXT))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        return made(Path(folder), gguf.LlamaFileType.ALL_F32, Path(folder) / "out.gguf", hparams=dict(config))


def converted(
    folder: Path, script: Path, adapter: Path, config: Mapping[str, Any]
) -> tuple[dict[str, tuple[tuple[int, ...], set[float]]], str]:
    """Run the script itself over an adapter: the shape and the numbers of each tensor that it writes, or {} and why."""
    import numpy as np
    from gguf import GGUFReader

    _as_released()
    base, out = folder / "base", folder / "out.gguf"
    base.mkdir(exist_ok=True)
    (base / "config.json").write_text(json.dumps(config))
    out.unlink(missing_ok=True)
    command = [str(script), f"--base={base}", f"--outfile={out}", "--no-lazy", str(adapter)]
    try:
        quiet = contextlib.redirect_stderr(io.StringIO())
        with mock.patch.object(sys, "argv", command), quiet, contextlib.redirect_stdout(io.StringIO()):
            runpy.run_path(str(script), run_name="__main__")
    except (SystemExit, Exception) as error:  # noqa: BLE001  whatever it raises, it refuses
        return {}, f"{type(error).__name__}: {str(error)[:120]}"
    found = GGUFReader(out).tensors
    return {
        item.name: (tuple(int(one) for one in item.shape), set(np.unique(item.data).tolist())) for item in found
    }, ""
