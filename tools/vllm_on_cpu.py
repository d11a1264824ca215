"""vLLM's own classes and LoRA manager on a machine without a GPU: what ``record_vllm.py`` and ``proof_targets.py`` ask.

The released wheel is unpacked, not installed, and told that it is the CPU build, so that its platform needs no CUDA.
Models are made on the meta device: modules and names are vLLM's own, and no weight takes memory. No kernel is run.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import inspect
import json
import os
import subprocess
import sys
import tempfile
import types
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def unpacked(version: str, cache: Path) -> Path:
    """Return the folder of an unpacked release, downloaded where it is not there yet."""
    folder = cache / f"vllm-{version}"
    if (folder / "done").exists():
        return folder
    wheels = sorted(cache.glob(f"vllm-{version}-*.whl"))
    if not wheels:
        kinds = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (28, 31, 35)]
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", *kinds]
        subprocess.run([*command, f"--dest={cache}", f"vllm=={version}"], check=True)
        wheels = sorted(cache.glob(f"vllm-{version}-*.whl"))
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(folder, [name for name in wheel.namelist() if not name.endswith((".so", ".cubin"))])
    info = next(folder.glob("*.dist-info"))
    metadata = info / "METADATA"
    metadata.write_text(metadata.read_text().replace(f"\nVersion: {version}\n", f"\nVersion: {version}+cpu\n", 1))
    info.rename(folder / f"vllm-{version}+cpu.dist-info")
    (folder / "done").touch()
    return folder


class _Anything(type):
    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


class _Nothing(metaclass=_Anything):
    def __init__(self, *_: Any, **__: Any) -> None:
        """Take what the real one takes."""


class _StandIn(types.ModuleType):
    __version__ = "99.0"
    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """torchvision, which models name for the pictures that nobody shows them here, and which needs its own build."""

    def find_spec(self, name: str, *_: Any, **__: Any) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing is to be run."""


_kept: list[Any] = []


def prepare() -> None:
    """Make vLLM importable and quiet; before anything of it is imported."""
    os.environ.update(VLLM_LOGGING_LEVEL="CRITICAL", HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    warnings.simplefilter("ignore")
    sys.meta_path.insert(0, _Finder())
    import torch
    from vllm.lora.layers import fused_moe
    from vllm.model_executor.models import registry

    kernels = torch.library.Library("_C", "FRAGMENT")
    kernels.define("gelu_quick(Tensor! out, Tensor input) -> ()")  # named when some vision towers are made
    _kept.append(kernels)
    registry._run_in_subprocess = lambda function: function()
    for name in ("FusedMoEWithLoRA", "FusedMoE3DWithLoRA"):
        # The wrapper asks for a GPU's kernel. What it wraps, and under which name, stays vLLM's own.
        getattr(fused_moe, name).__init__ = _wrap_experts
        getattr(fused_moe, name).create_lora_weights = _nothing
        getattr(fused_moe, name).set_mapping = _nothing


def _nothing(*_: Any, **__: Any) -> None:
    """Make no slots for weights, and no link to a kernel."""


def _wrap_experts(self: Any, base_layer: Any) -> None:
    import torch

    torch.nn.Module.__init__(self)
    self.base_layer = base_layer
    self.moe_config = base_layer.moe_config
    self._shared_experts = getattr(base_layer, "_shared_experts", None)
    self._enable_aux_cuda_stream = False
    self._w13_slices = 2 if self.moe_config.is_act_and_mul else 1
    self.w13_lora_a_stacked = (torch.empty(1, self.moe_config.num_experts, 1, 1),)


_started = False


def make(config: Mapping[str, Any], name: str) -> tuple[Any, Any]:
    """Return vLLM's model for a config whose ``architectures`` is this class, and vLLM's config."""
    global _started
    import torch
    from vllm.config import DeviceConfig, ModelConfig, VllmConfig, set_current_vllm_config
    from vllm.config.lora import LoRAConfig
    from vllm.distributed import init_distributed_environment, initialize_model_parallel
    from vllm.distributed.parallel_state import destroy_model_parallel
    from vllm.model_executor.model_loader.utils import initialize_model

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps({**config, "architectures": [name]}))
        of_model = ModelConfig(
            model=folder,
            tokenizer=folder,
            skip_tokenizer_init=True,
            dtype="bfloat16",
            max_model_len=64,
            enforce_eager=True,
        )
        lora = LoRAConfig(max_lora_rank=512, max_loras=1, max_cpu_loras=2)
        settings = VllmConfig(model_config=of_model, lora_config=lora, device_config=DeviceConfig("cpu"))
        with set_current_vllm_config(settings):
            if _started:
                destroy_model_parallel()
            else:
                init_distributed_environment(1, 0, f"file://{tempfile.mkdtemp()}/rendezvous", 0, "gloo")
                _started = True
            initialize_model_parallel(1, 1)
            with torch.device("meta"):
                return initialize_model(vllm_config=settings), settings


def manager(model: Any, settings: Any) -> Any:
    """Return vLLM's LoRA manager over a model: it wraps the modules that LoRA can reach."""
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.lora.model_manager import LoRAModelManager

    given = {
        "model": model,
        "max_num_seqs": 2,
        "max_num_batched_tokens": 64,
        "vocab_size": settings.model_config.get_vocab_size(),
        "lora_config": settings.lora_config,
        "device": torch.device("meta"),
        "vllm_config": settings,
    }
    taken = inspect.signature(LoRAModelManager.__init__).parameters
    with set_current_vllm_config(settings), torch.device("meta"):
        return LoRAModelManager(**{name: value for name, value in given.items() if name in taken})
