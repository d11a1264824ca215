"""What engines other than vLLM do with an adapter, by their own code: SGLang, llama.cpp's converter, MLX-LM, PEFT.

Each tensor of the adapter is filled with a number of its own before an engine reads it. The numbers in what the engine
makes of it then tell which tensors it uses, whatever it calls, joins, turns or scales them.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent))

Said = tuple[str, str]
USED, ELSE, REFUSED = "used", "serves else", "refused"


class Read(dict[str, Any]):
    """An adapter's config that notes which of its fields are asked for."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Note the field, and return it."""
        self.asked.add(name)
        return super().get(name, default)


def numbered(folder: Path, to: Path) -> dict[str, float]:
    """Write an adapter again with a number in each tensor; return name -> number. Base weights are left out of it."""
    import torch
    from safetensors.torch import load_file, save_file

    to.mkdir(parents=True, exist_ok=True)
    (to / "adapter_config.json").write_text((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    numbers = {name: 101.0 + 2 * at for at, name in enumerate(sorted(tensors))}
    filled = {name: torch.full(one.shape, numbers[name], dtype=torch.float32) for name, one in tensors.items()}
    save_file(filled, to / "adapter_model.safetensors")
    return {name: number for name, number in numbers.items() if ".base_layer.weight" not in name}


def scales(config: Mapping[str, Any]) -> Iterator[tuple[int, float, float]]:
    """What PEFT multiplies with: for each rank and alpha of the adapter, both and the scale (``update_layer``)."""
    ranks = {config["r"], *(config.get("rank_pattern") or {}).values()}
    alphas = {config["lora_alpha"], *(config.get("alpha_pattern") or {}).values()}
    for rank in ranks:
        for alpha in alphas:
            yield rank, alpha, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def judged(config: Read, numbers: Mapping[str, float], there: set[float], scale_of: Any) -> Said:
    """Whether what an engine made of an adapter is what was trained."""
    unused = [name for name, number in numbers.items() if number not in there]
    if unused:
        return ELSE, f"{len(unused)} of {len(numbers)} tensors are not used: {unused[0]}"
    plain = dict(config)
    for rank, alpha, scale in scales(plain):
        if not math.isclose(scale_of(rank), scale):
            return ELSE, f"it multiplies with {scale_of(rank)}, PEFT with {scale} (rank {rank}, alpha {alpha})"
    init = plain.get("init_lora_weights")
    changes = isinstance(init, str) and init.startswith(("pissa", "olora", "corda", "loftq"))
    if changes and "init_lora_weights" not in config.asked:
        return ELSE, "it does not read init_lora_weights"
    if plain.get("alora_invocation_tokens") and "alora_invocation_tokens" not in config.asked:
        return ELSE, "it does not read alora_invocation_tokens"
    return USED, ""


class SGLang:
    """A server of SGLang that starts with the adapter and uses it once."""

    name, target, release = "SGLang", "sglang", "0.5.23"

    def __init__(self, cache: Path) -> None:
        import sglang_on_cpu

        sys.path.insert(0, str(sglang_on_cpu.unpacked(cache)))
        self.tools, self.settings = sglang_on_cpu, sglang_on_cpu.prepare()

    def made(self, base: Mapping[str, Any]) -> Any:
        """A base model that SGLang can make here, or why it cannot."""
        name = base["architectures"][0]
        # Published configs have both names; transformers writes the newer one alone.
        base = {"hidden_act": base["hidden_activation"], **base} if "hidden_activation" in base else base
        made = self.tools.served(name)
        if made is None:
            return f"{name} (no class of its own)"
        try:
            self.tools.make(made, base, "meta")
        except Exception as error:  # noqa: BLE001  what a class wants and this machine has not is anything
            return f"{name} ({type(error).__name__}: {str(error)[:80]})"
        return made, base

    def said(self, of: Any, folder: Path, work: Path) -> Said:
        """What it does with an adapter."""
        import torch
        from sglang.srt.lora.lora_config import LoRAConfig

        numbers = numbered(folder, work)
        config = Read(json.loads((work / "adapter_config.json").read_text()))
        try:
            model, read = self.tools.make(of[0], of[1], "cpu")
            with mock.patch.object(LoRAConfig, "get_lora_config", return_value=config):
                manager = self.tools.manager(model, read, self.settings, work)
        except Exception as error:  # noqa: BLE001  whatever it raises, it refuses
            return REFUSED, f"{type(error).__name__}: {str(error)[:120]}"
        pool, adapter = manager.memory_pool, manager.loras["1"]
        slot = pool.get_buffer_id("1")
        layered = [buffer[slot] for by in (pool.A_buffer, pool.B_buffer) for of_one in by.values() for buffer in of_one]
        others = (pool.embedding_A_buffer, pool.embedding_B_buffer, pool.lm_head_A_buffer, pool.lm_head_B_buffer)
        whole = [buffer[slot] for by in others for buffer in by.values()]
        there = {float(one) for buffer in (*layered, *whole) for one in torch.unique(buffer)}
        # The second half of an expert is scaled as it is loaded.
        there |= {number for number in numbers.values() if number * adapter.scaling in there}
        return judged(config, numbers, there, lambda _: adapter.scaling)


class LlamaCpp:
    """llama.cpp's ``convert_lora_to_gguf.py``, then what its loader looks at: names and shapes of the base model's."""

    name, target, release = "llama.cpp's converter, of llama-cpp-python", "llama-cpp", "0.3.36"

    def __init__(self, cache: Path) -> None:
        import llama_cpp_on_cpu

        self.tools, self.folder = llama_cpp_on_cpu, llama_cpp_on_cpu.unpacked(cache)
        llama_cpp_on_cpu.prepare(self.folder)

    def made(self, base: Mapping[str, Any]) -> Any:
        """The base model's tensors as llama.cpp has them, None where it does not know the class."""
        from record_llama_cpp import base_tensors

        try:
            return base, base_tensors(base)
        except NotImplementedError:
            return None
        except Exception as error:  # noqa: BLE001  what a class wants and is not there is anything
            return f"{base['architectures'][0]} ({type(error).__name__})"

    def said(self, of: Any, folder: Path, work: Path) -> Said:
        """What it does with an adapter."""
        if of is None:
            return REFUSED, "the class is not known"
        base, tensors = of
        numbers = numbered(folder, work)
        config = Read(json.loads((work / "adapter_config.json").read_text()))
        load = json.load

        def noted(file: Any) -> Any:
            return config if Path(file.name).name == "adapter_config.json" else load(file)

        with tempfile.TemporaryDirectory() as scratch, mock.patch.object(json, "load", noted):
            found, why = self.tools.converted(Path(scratch), self.folder / "convert_lora_to_gguf.py", work, base)
        if why:
            return REFUSED, why
        for name, (shape, _) in found.items():
            whole, _, half = name.rpartition(".")
            known = tensors.get(whole)
            if known is None and "_exps" not in whole and "_norm" not in whole:
                return REFUSED, f"LoRA tensor '{whole}' does not exist in base model"
            # llama-adapter.cpp:358-371: of an embedding both halves are turned; ggml's dimensions come in reverse.
            at = 0 if half == "lora_a" and not whole.endswith("token_embd.weight") else 1
            if known is not None and half in ("lora_a", "lora_b") and shape[at] not in known:
                return REFUSED, f"tensor '{whole}' has incorrect shape"
        there = {number for _, values in found.values() for number in values}
        alpha = float(config["lora_alpha"])
        return judged(config, numbers, there, lambda rank: alpha / rank)  # llama-adapter.h::get_scale


class Mlx:
    """MLX-LM's ``load_adapters`` on a model of its own."""

    name, target, release = "MLX-LM", "mlx", "0.32.2"

    def __init__(self, _: Path) -> None:
        from mlx_lm import utils
        from mlx_lm.tuner import utils as tuner

        self.utils, self.tuner = utils, tuner

    def made(self, base: Mapping[str, Any]) -> Any:
        """A model of MLX-LM, or why there is none."""
        try:
            model, arguments = self.utils._get_classes(config=dict(base))
            return model(arguments.from_dict(dict(base)))
        except Exception as error:  # noqa: BLE001  what a class wants and is not there is anything
            return f"{base['architectures'][0]} ({type(error).__name__})"

    def said(self, of: Any, folder: Path, _: Path) -> Said:
        """What it does with an adapter."""
        try:
            self.tuner.load_adapters(of, str(folder))
            return USED, ""
        except Exception as error:  # noqa: BLE001  whatever it raises, it refuses
            return REFUSED, f"{type(error).__name__}: {str(error)[:120]}"


class Peft:
    """PEFT's own loading, on the meta device."""

    name, target, release = "PEFT", "peft", "0.21.2"

    def __init__(self, _: Path) -> None:
        import loading_oracle

        self.judge = loading_oracle.judge

    def made(self, base: Mapping[str, Any]) -> Any:
        """The base model's config: it is made with the adapter."""
        return base

    def said(self, of: Any, folder: Path, _: Path) -> Said:
        """What it does with an adapter."""
        from safetensors import safe_open

        with safe_open(folder / "adapter_model.safetensors", "pt") as file:
            shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        config = json.loads((folder / "adapter_config.json").read_text())
        with contextlib.redirect_stdout(sys.stderr):
            case = {"id": "", "base": of, "config": config, "tensors": shapes, "class": of["architectures"][0]}
            found = self.judge(case)
        verdict = {"all": USED, "part": ELSE, "none": ELSE, "raises": REFUSED}.get(found["loads"], found["loads"])
        return verdict, str(found["why"] or found["dropped"])[:160]


ENGINES: Mapping[str, type[SGLang] | type[LlamaCpp] | type[Mlx] | type[Peft]] = {
    "peft": Peft,
    "sglang": SGLang,
    "llama-cpp": LlamaCpp,
    "mlx": Mlx,
}
