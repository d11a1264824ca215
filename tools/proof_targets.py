"""Hold what is said of the engines against their own released code, on a CPU: vLLM, SGLang, llama.cpp, MLX-LM, PEFT.

usage: python tools/proof_targets.py [--cache FOLDER] [--corpus FILE] [--only NAME] [--peft-python FILE] [ENGINE ...]

Each adapter of the corpus (``fixtures/peft-adapters.tar.xz``), and some of them under other names, is read by each
engine for the class of its base model: used, refused, or loaded and used in part, otherwise, or not at all. ``check``
has to say the same. It ends with 1 where one differs. An ENGINE is ``vllm@0.33.0``, ``sglang``, ``llama-cpp``, ``mlx``
or ``peft``. The facts that no code was run for are listed with their source.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import vllm_on_cpu
from facts_not_run import not_run
from proof_engines import ENGINES
from record_vllm import RELEASES

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "fixtures" / "peft-adapters.tar.xz"
_SERVES_ELSE = {"LP506", "LP516"}
# Where an engine does otherwise than a check says, and why that stays so.
TOLD_OTHERWISE: Mapping[str, str] = {
    "llama-cpp gemma2-mts": "Gemma's converter drops lm_head before it looks at what the tensor is; others refuse it",
    "sglang qwen2-bias_all": "a bias of a module without LoRA beside it ends the load; the others are ignored",
    **dict.fromkeys(
        ("peft llama-monteclora", "peft qwen2-monteclora"),
        "the sampler's tensors are for training: PEFT writes them, and leaves them out when it loads",
    ),
}
VERDICTS = ("used", "serves else", "refused")


def main() -> int:
    """Compare each engine in a process of its own, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "engine-wheels")
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--only", default="")
    parser.add_argument("--peft-python", default=sys.executable, help="the Python of the environment that PEFT is in")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("engines", nargs="*", default=[*(f"vllm@{release}" for release in RELEASES), *ENGINES])
    options = parser.parse_args()
    if options.inside:
        return compared(opened(options.inside, options.cache), options.corpus, options.only)
    options.cache.mkdir(parents=True, exist_ok=True)
    code = 0
    for engine in options.engines:
        name, _, release = engine.partition("@")
        path = [str(ROOT), str(vllm_on_cpu.unpacked(release, options.cache))] if name == "vllm" else [str(ROOT)]
        python = options.peft_python if name == "peft" else sys.executable
        given = [
            f"--inside={engine}",
            f"--only={options.only}",
            f"--corpus={options.corpus}",
            f"--cache={options.cache}",
        ]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}
        code |= subprocess.run([python, __file__, *given], check=False, env=environment).returncode
    print("\nread, not run:")
    sys.path.insert(0, str(ROOT))
    for fact in not_run(features(options.corpus)):
        print(f"  {fact.target}{fact.versions} {fact.feature}: {fact.effect}  [{fact.source}]")
    return code


def opened(engine: str, cache: Path) -> Any:
    """The engine, ready to be asked."""
    name, _, release = engine.partition("@")
    return Vllm(release) if name == "vllm" else ENGINES[name](cache)


def compared(engine: Any, corpus: Path, only: str) -> int:
    """Compare one engine, and return 1 where a verdict differs."""
    import lora_packer

    counts: Counter[str] = Counter()
    wrong: list[str] = []
    made: dict[str, Any] = {}
    label = engine.target if engine.target != "vllm" else f"vllm@{engine.release}"
    with tempfile.TemporaryDirectory() as work:
        for number, (name, folder, base) in enumerate(cases(corpus, Path(work))):
            if only not in name:
                continue
            key = json.dumps(base, sort_keys=True)
            if key not in made:
                made[key] = engine.made(base)
            if isinstance(made[key], str):
                counts[f"not made here: {made[key]}"] += 1
                continue
            theirs = engine.said(made[key], folder, Path(work, "numbered", str(number)))
            if theirs[0] not in VERDICTS:
                counts[f"not made here: {theirs[0]}"] += 1
                continue
            report = lora_packer.check(folder, base_config=base, target=label, weights=False)
            ours, codes = verdict_of(report, label)
            # For PEFT a check does not tell what is refused from what is dropped: both are its errors.
            neither = engine.target == "peft" and "used" not in (ours, theirs[0])
            agree = ours == theirs[0] or neither or f"{engine.target} {folder.name}" in TOLD_OTHERWISE
            counts[theirs[0] if agree else "differs"] += 1
            if not agree:
                wrong.append(f"{name}: {engine.name} {theirs[0]} ({theirs[1]}), check {ours} {codes}")
    agreed = sum(counts[verdict] for verdict in VERDICTS)
    print(
        f"{engine.name} {engine.release}: {agreed + len(wrong)} cases, {agreed} agree, {len(wrong)} differ", flush=True
    )
    for verdict, count in sorted(counts.items()):
        print(f"  {count:>4}  {verdict}")
    for line in wrong:
        print(f"  {line[:400]}")
    return 1 if wrong or not agreed else 0


def verdict_of(report: Any, label: str) -> tuple[str, list[str]]:
    """What a check says of this target, in the engines' words."""
    errors = {item.code for item in report.findings if item.severity == "error"}
    if label != "peft":
        errors = {item.code for item in report.findings if item.severity == "error" and item.targets}
    # A server as it starts has no LoRA outside the language model: there it is a warning with the setting.
    by_setting = any("--enable-tower-connector-lora" in (item.hint or "") for item in report.findings)
    found = "refused" if errors - _SERVES_ELSE else "serves else" if errors or by_setting else "used"
    return found, sorted(errors)


class Vllm:
    """vLLM's own config reader, loader and LoRA manager."""

    name, target = "vLLM", "vllm"

    def __init__(self, release: str) -> None:
        self.release = release
        vllm_on_cpu.prepare()

    def made(self, base: Mapping[str, Any]) -> Any:
        """Its LoRA manager for a base model."""
        return served(base)

    def said(self, of: Any, folder: Path, _: Path) -> tuple[str, str]:
        """What it does with an adapter."""
        return said_by_vllm(of, folder)


def served(base: Mapping[str, Any]) -> Any:
    """vLLM's LoRA manager for a base model, None where its class takes no LoRA, or why it cannot be made here."""
    from vllm.model_executor.models.interfaces import supports_lora
    from vllm.model_executor.models.registry import ModelRegistry

    name = base["architectures"][0]
    made = ModelRegistry._try_load_model_cls(name)
    if made is not None and not supports_lora(made):
        return None
    try:
        return vllm_on_cpu.manager(*vllm_on_cpu.make(base, name))
    except Exception as error:  # noqa: BLE001  what a class wants and this machine has not is anything
        return f"{name} ({type(error).__name__})"


def said_by_vllm(manager: Any, folder: Path) -> tuple[str, str]:
    """What vLLM does with an adapter, as ``WorkerLoRAManager._load_adapter`` and ``LoRAModelManager`` go about it."""
    if manager is None:
        return "refused", "the class takes no LoRA"
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    packed, supported = manager.packed_modules_mapping, manager.supported_lora_modules
    expected = {name for module in supported for name in packed.get(module, [module])}
    expected |= {"experts"} & set(supported)
    mapper = getattr(manager.model, "hf_to_vllm_mapper", None)
    try:
        helper = PEFTHelper.from_local_dir(str(folder), 64)
        helper.validate_legal(manager.lora_config)
        lora = LoRAModel.from_local_checkpoint(
            str(folder),
            expected,
            peft_helper=helper,
            lora_model_id=1,
            device="cpu",
            model_vocab_size=manager.vocab_size,
            weights_mapper=mapper and mapper.get_rename_mapper(),
            skip_prefixes=getattr(manager.model, "lora_skip_prefixes", None),
        )
        if manager.modules and lora.loras:
            manager._validate_moe_lora_format(lora)
            manager._create_merged_loras_inplace(lora)
    except Exception as error:  # noqa: BLE001  whatever it raises, it refuses
        return "refused", f"{type(error).__name__}: {str(error)[:120]}"
    used = {id(manager._get_lora_layer_weights(lora, name)) for name in manager.modules}
    unused = [name for name, weights in lora.loras.items() if id(weights) not in used]
    # 0.32.0 keeps the entry of fused experts after it has put the weights into that of their module.
    unused = [name for name in unused if id(lora.loras.get(name.removesuffix(".base_layer"))) not in used]
    return ("serves else", f"nothing uses {len(unused)} of {len(lora.loras)}: {unused[0]}") if unused else ("used", "")


def cases(corpus: Path, work: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Adapters: a name, the folder, and the base model's config with the class that it was made on."""
    with tarfile.open(corpus) as archive:
        archive.extractall(work, filter="data")
    for oracle in sorted(work.glob("*/*/oracle.json")):
        base = json.loads((oracle.parent / "base_config.json").read_text())
        base["architectures"] = [json.loads(oracle.read_text())["model_class"]]
        folder = next(oracle.parent.rglob("adapter_config.json")).parent
        if spans := json.loads((folder / "adapter_config.json").read_text()).get("layer_replication"):
            base = before_replication(base, max(end for _, end in spans))
        name = f"{oracle.parent.parent.name}/{oracle.parent.name}"
        yield name, folder, base
        for kind, change in RENAMED.items():
            if oracle.parent.name.endswith(("-alllinear", "-qv")):
                yield f"{name} {kind}", renamed(folder, work / "renamed" / f"{name} {kind}", change), base


def before_replication(base: dict[str, Any], layers: int) -> dict[str, Any]:
    """The config of the model as it is published: PEFT counts the replicated layers into the one that it has made."""
    count = base["num_hidden_layers"]
    cut = {key: value[:layers] for key, value in base.items() if isinstance(value, list) and len(value) == count}
    return {**base, **cut, "num_hidden_layers": layers}


# The same tensors under other names: of a wrapper, of a text-only class and back, of experts elsewhere.
RENAMED: Mapping[str, tuple[str, str]] = {
    "under one prefix more": ("base_model.model.", "base_model.model.model."),
    "in a wrapper": ("base_model.model.model.", "base_model.model.model.language_model."),
    "of the text-only class": ("model.language_model.", "model."),
    "of an older wrapper": ("model.language_model.", "language_model.model."),
    "without PEFT's prefix": ("base_model.model.", ""),
    "in another block": (".mlp.", ".block_sparse_moe."),
    "fused already": (".q_proj.", ".qkv_proj."),
    "of another block's projection": (".o_proj.", ".dense."),
}


def renamed(folder: Path, to: Path, change: tuple[str, str]) -> Path:
    """Write an adapter again with one part of every name changed."""
    from safetensors.numpy import load_file, save_file

    to.mkdir(parents=True)
    (to / "adapter_config.json").write_text((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({name.replace(*change): tensor for name, tensor in tensors.items()}, to / "adapter_model.safetensors")
    return to


def features(corpus: Path) -> set[str]:
    """The features that an adapter of the corpus has."""
    from lora_packer.adapter.adapter import read_adapter
    from lora_packer.adapter.source import FolderSource
    from lora_packer.targets.features import used_features

    found: set[str] = set()
    with tempfile.TemporaryDirectory() as work:
        for _, folder, _ in cases(corpus, Path(work)):
            adapter = read_adapter(FolderSource(folder))
            found |= set(used_features(adapter.config, adapter.tensors)) if adapter.config else set()
    return found


if __name__ == "__main__":
    sys.exit(main())
