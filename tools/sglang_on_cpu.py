"""SGLang's own classes and LoRA manager on a machine without a GPU: what ``record_sglang.py`` and the proof ask.

The released wheel is unpacked, not installed. What it imports and is not here (kernels, servers, tracing) is stood in
for by modules that do nothing; the models, ``LoRAManager``, ``LoRAAdapter`` and ``LoRAMemoryPool`` are SGLang's own.
No kernel is run.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import logging
import subprocess
import sys
import tempfile
import types
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RELEASE = "0.5.23"
# SGLang's own parts that serve requests: nothing of them is asked, and they import a good deal.
_SERVES = ("sglang.srt.entrypoints", "sglang.srt.constrained", "sglang.srt.parser", "sglang.srt.function_call")


def unpacked(cache: Path) -> Path:
    """Return the folder of the unpacked release, downloaded where it is not there yet."""
    folder = cache / f"sglang-{RELEASE}"
    if (folder / "done").exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    wheels = sorted(cache.glob(f"sglang-{RELEASE}-*.whl"))
    if not wheels:
        kinds = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (28, 31, 34, 35)]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *kinds]
        subprocess.run([*command, f"--dest={cache}", f"sglang=={RELEASE}"], check=True)
        wheels = sorted(cache.glob(f"sglang-{RELEASE}-*.whl"))
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(folder, [name for name in wheel.namelist() if not name.endswith((".so", ".cubin"))])
    (folder / "done").touch()
    return folder


class _Anything(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


class _Nothing(metaclass=_Anything):
    def __init__(self, *_: Any, **__: Any) -> None:
        """Take what the real one takes."""

    def __call__(self, *given: Any, **_: Any) -> Any:
        """As a decorator it changes nothing."""
        return given[0] if given and callable(given[0]) else _Nothing()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing()

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.any_schema()


class _StandIn(types.ModuleType):
    __version__ = "99.0"
    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


class _Loader(importlib.abc.Loader):
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing is to be run."""


class _Serving(importlib.abc.MetaPathFinder):
    """Before every other finder: what of SGLang is not asked."""

    def find_spec(self, name: str, *_: Any, **__: Any) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, _Loader(), is_package=True) if name.startswith(_SERVES) else None


class _Missing(importlib.abc.MetaPathFinder):
    """After every other finder: what SGLang imports and is not here. For others it stays missing."""

    made: set[str] = set()  # noqa: RUF012

    def find_spec(self, name: str, *_: Any, **__: Any) -> importlib.machinery.ModuleSpec | None:
        first = name.partition(".")[0]
        if first not in self.made:
            if "." in name or first in sys.stdlib_module_names or not _asked_by("sglang"):
                return None
            self.made.add(first)
        return importlib.machinery.ModuleSpec(name, _Loader(), is_package=True)


def _asked_by(package: str) -> bool:
    frame = sys._getframe(2)
    while frame and "importlib" in frame.f_code.co_filename:
        frame = frame.f_back  # type: ignore[assignment]
    return bool(frame) and str(frame.f_globals.get("__name__", "")).startswith(package)


def prepare() -> Any:
    """Make SGLang importable, quiet, and a server of one process; return its server args."""
    import torch

    warnings.simplefilter("ignore")
    from transformers import AutoProcessor  # noqa: F401  it notes what is not here, before anything stands in for it

    sys.meta_path.insert(0, _Serving())
    sys.meta_path.append(_Missing())
    make = torch.tensor

    def unpinned(*given: Any, **named: Any) -> Any:
        return make(*given, **{**named, "pin_memory": False})

    torch.tensor = unpinned  # a machine without a GPU has no pinned memory
    torch.Tensor.pin_memory = lambda self, *_: self
    fetch = torch.Tensor.cpu
    # Offsets of a packed module are fetched from the device: on the meta device there is nothing to fetch.
    torch.Tensor.cpu = lambda self: torch.zeros(self.shape) if self.is_meta else fetch(self)
    from sglang.srt.distributed.parallel_state import init_distributed_environment, initialize_model_parallel
    from sglang.srt.runtime_context import SpawnRanks, get_context, publish

    logging.disable(logging.CRITICAL)
    given = {"device": "cpu", "enable_lora": True, "attention_backend": "torch_native"}
    settings = get_context().override_server_args(**given).install()
    publish(settings, role="scheduler", ranks=SpawnRanks(0, None, None))
    meeting = f"file://{tempfile.mkdtemp()}/rendezvous"
    init_distributed_environment(backend="gloo", world_size=1, rank=0, local_rank=0, distributed_init_method=meeting)
    initialize_model_parallel(backend="gloo")
    return settings


def served(name: str) -> Any:
    """Return SGLang's class for a class of transformers, or None where it has none of its own."""
    from sglang.srt.models.registry import ModelRegistry

    return ModelRegistry.models.get(name)


def make(made: Any, config: Mapping[str, Any], device: str) -> tuple[Any, Any]:
    """Return SGLang's model for a base config, and the config as an object."""
    import torch
    from sglang.srt.utils.hf_transformers_utils import get_config

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        read = get_config(folder, trust_remote_code=False)
    with torch.device(device):
        return made(read), read


def manager(model: Any, config: Any, settings: Any, adapter: Path) -> Any:
    """Return SGLang's LoRA manager of a server that starts with one adapter, which is made ready for use.

    Whatever it raises, the server does not start with this adapter, or stops when it is first used.
    """
    import torch
    from sglang.srt.configs.load_config import LoadConfig
    from sglang.srt.lora.lora_manager import LoRAManager
    from sglang.srt.lora.lora_registry import LoRARef

    named = LoRARef(lora_id="1", lora_name="adapter", lora_path=str(adapter), pinned=False)
    made = LoRAManager(model, config, 2, LoadConfig(), torch.bfloat16, settings, "torch_native", lora_paths=[named])
    made.fetch_new_loras({"1"})
    return made
