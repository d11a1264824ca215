"""For each repair an adapter that PEFT loads, and what ``fix`` makes of it once it is broken, for ``fix_in_peft.py``.

usage (with PYTHONPATH=tests/support:tests/repair): python tools/fix_cases.py OUT

The breakages are those of ``tests/repair``. OUT gets a folder for each: ``original``, ``fixed``, ``base.json``, and
``case.json`` with the repairs that were done and by how much the updates may differ (0: not in one bit). Exit 1 where
``fix`` does not do what it is there for.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

import lora_packer

Tensors = Mapping[str, Any]
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

builders: Any = import_module("builders")
names, files, layouts, forms, older = (
    import_module(f"test_fix{name}") for name in ("", "_files", "_layouts", "_forms", "_older")
)

# The order in which numbers are summed up is another one: relative to the largest number of the update.
_SUMMED_OTHERWISE = 1e-6


@dataclass(frozen=True, slots=True)
class Case:
    """A broken adapter, and the one that it was.

    Attributes:
        name: what is broken.
        repair: the name of what has to mend it.
        original: its tensors and its config as PEFT loads them.
        breaks: writes the broken one into a folder.
        base: the base model's config.
        allow: what is asked for by name.
        bound: by how much an update may differ, relative to its largest number.
        options: further arguments of ``fix``.
    """

    name: str
    repair: str
    original: tuple[Tensors, Mapping[str, Any]]
    breaks: Callable[[Path], object]
    base: Path = builders.TINY_BASE
    allow: tuple[str, ...] = ()
    bound: float = 0.0
    base_weights: Callable[[Path], object] | None = None


def numbers() -> Tensors:
    """The tiny adapter with numbers that all differ."""
    rng = np.random.default_rng(1)
    return {n: rng.standard_normal(t.shape).astype(np.float32) for n, t in builders.tiny_tensors().items()}


def written(tensors: Tensors, config: Mapping[str, Any]) -> Callable[[Path], object]:
    """Write these two files."""
    return lambda folder: builders.write_adapter(folder, tensors, config)


def of_names_and_config() -> Iterator[Case]:
    """What stands under other names, or in the config."""
    tiny = numbers(), builders.tiny_config()
    for kind, (repair, breaks) in names.BREAKAGES.items():
        yield Case(kind, repair, tiny, written(*breaks(*tiny)))
    config = builders.tiny_config
    magnitudes = {
        name.replace("lora_B.weight", "lora_magnitude_vector"): np.abs(tensor[:, 0]) + np.float32(0.5)
        for name, tensor in tiny[0].items()
        if name.endswith("lora_B.weight")
    }
    dora = {**tiny[0], **magnitudes}
    yield Case("DoRA off", "feature", (dora, config(use_dora=True)), written(dora, config()))
    saved = config(modules_to_save=["q_proj"])
    yield Case("saved, and it is LoRA", "saved-modules", tiny, written(tiny[0], saved))
    named = config(base_model_name_or_path="unsloth/Qwen3-8B-bnb-4bit")
    yield Case("a 4-bit base", "base-id", tiny, written(tiny[0], named))
    yield Case("another rank", "rank", tiny, written(tiny[0], config(r=16)), allow=("rank-from-tensors",))
    pattern = config(target_modules=".*(q_proj|v_proj)")
    yield Case("a pattern", "listed-targets", (tiny[0], pattern), written(tiny[0], pattern), allow=("listed-targets",))
    ranks = forms.patterned({"v_proj": 2})
    whole = config(rank_pattern={"v_proj": 2})
    for name, old, new in (
        ("rank pattern", ranks, whole),
        ("alpha pattern", tiny[0], config(alpha_pattern={"v_proj": 32})),
    ):
        # Zeros are added, and powers of two go from the scale into lora_B: no number changes.
        yield Case(name, "patterns", (old, new), written(old, new), allow=("plain-scale",), bound=_SUMMED_OTHERWISE)
    for alpha in (8, 5, 3.7):
        rslora = config(use_rslora=True, lora_alpha=alpha)
        yield Case(f"rsLoRA {alpha}", "rslora", (tiny[0], rslora), written(tiny[0], rslora), allow=("plain-scale",))


def of_values() -> Iterator[Case]:
    """What is in the tensors."""
    tiny = numbers(), builders.tiny_config()
    halves = {n: (t.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32) for n, t in tiny[0].items()}
    yield Case("padded", "padded-float32", (halves, tiny[1]), written(halves, tiny[1]))
    yield Case("to bfloat16", "bfloat16", tiny, written(*tiny), allow=("bfloat16",), bound=0.02)
    yield Case("to rank 2", "svd-rank", tiny, written(*tiny), allow=("svd-rank=2",), bound=1.0)
    with tempfile.TemporaryDirectory() as place:
        own = names.base_weights(Path(place) / "base")
    more = {**tiny[0], **{builders.PREFIX + name: tensor for name, tensor in own.items()}}
    yield Case("the base's weights", "base-weights", tiny, written(more, tiny[1]), base_weights=names.base_weights)


def of_files() -> Iterator[Case]:
    """What lies elsewhere, in pieces, or in another kind of file."""
    tiny = builders.tiny_tensors(), builders.tiny_config()
    for kind, (repair, _, make) in files.FILES.items():
        yield Case(kind, repair, tiny, make)


def of_layouts() -> Iterator[Case]:
    """What other trainers write."""
    config = builders.tiny_config(target_modules=list(layouts.ALL), r=layouts.RANK)
    own, shared = layouts.adapter_of(), layouts.adapter_of(shared=True)
    tune = written(layouts.as_torchtune(own, turns=True), {**config, "target_modules": ["q_proj", "w1"]})
    yield Case("torchtune", "torchtune", (own, config), tune)
    for name, of in (
        ("Megatron", lambda layer, module: f"decoder.layers.{layer}.{module}.adapter"),
        ("NeMo 1", lambda layer, module: f"model.decoder.layers.{layer}.{layouts._OLDER[module]}"),
    ):
        yield Case(name, "megatron", (shared, config), written(layouts.as_megatron(shared, of), config))
    canonical = {"peft_type": "LORA", "adapter_dim": config["r"], "alpha": config["lora_alpha"], "variant": "canonical"}
    apart = written(layouts.as_canonical_nemo(own), canonical)
    yield Case("NeMo 1, canonical", "megatron", (own, config), apart)
    alphas = {"": 2.0, "model.layers.1.mlp.up_proj": 0.5}
    patterned = {**config, "lora_alpha": 2, "alpha_pattern": {"model.layers.1.mlp.up_proj": 0.5}}
    kohya = layouts.as_kohya(own, alphas)
    yield Case("kohya", "kohya", (own, patterned), lambda folder: layouts.kohya_file(folder, kohya))
    with tempfile.TemporaryDirectory() as place:
        folder, mlx = forms.mlx_adapter(Path(place) / "a", scale=10 / 3)
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
    turned = {builders.PREFIX + f"{n[:-1]}{n[-1].upper()}.weight": np.ascontiguousarray(t.T) for n, t in mlx.items()}
    yield Case("MLX", "mlx", (turned, builders.tiny_config(lora_alpha=4 * (10 / 3))), lambda place: _put(place, found))


def _put(folder: Path, found: Mapping[str, bytes]) -> None:
    folder.mkdir()
    for name, data in found.items():
        (folder / name).write_bytes(data)


def of_experts() -> Iterator[Case]:
    """LoRA on the experts of a mixture: one by one, and as one."""
    with tempfile.TemporaryDirectory() as place:
        folder, single = forms.one_by_one(Path(place) / "a")
        config = json.loads((folder / CONFIG).read_text())
        own = written(single, config)
        bound = _SUMMED_OTHERWISE
        yield Case("single experts", "fused-experts", (single, config), own, forms.QWEN, ("fused-experts",), bound)
        lora_packer.fix(folder, Path(place) / "fused", base_config=forms.QWEN, target="peft", allow=["fused-experts"])
        fused = load_file(Path(place) / "fused" / WEIGHTS), json.loads((Path(place) / "fused" / CONFIG).read_text())
        yield Case("fused experts", "per-expert", fused, written(*fused), forms.QWEN, ("per-expert",), bound)


def of_older_releases() -> Iterator[Case]:
    """Names and layouts of another release or class, and keys of patterns that saving has sorted."""
    tiny = builders.tiny_config
    ranks = {"model.layers.0.self_attn.q_proj": 8, "model.layers.1.self_attn.q_proj": 2}
    tensors = older.of_two_ranks()
    broken = written(tensors, tiny(rank_pattern=older.OVERLAPPING))
    yield Case("keys that overlap", "overlapping-patterns", (tensors, tiny(rank_pattern=ranks)), broken)
    text, served = older.text_only(), tiny(target_modules=".*language_model.*q_proj")
    broken = written(text, tiny(target_modules=["q_proj"]))
    yield Case("text-only names", "older-names", (older.as_served(text), served), broken, older.GEMMA)


def main() -> int:
    """Write all cases; print what was not mended."""
    out, wrong, count = Path(sys.argv[1]), 0, 0
    for make in (of_names_and_config, of_values, of_files, of_layouts, of_experts, of_older_releases):
        for case in make():
            folder = out / f"{count:03}"
            count += 1
            builders.write_adapter(folder / "original", *case.original)
            case.breaks(folder / "broken")
            (folder / "base.json").write_text(case.base.read_text())
            if case.base_weights is not None:
                case.base_weights(folder / "weights")
            result = lora_packer.fix(
                folder / "broken",
                folder / "fixed",
                base_config=case.base,
                target="peft",
                allow=case.allow,
                base_weights=folder / "weights" if case.base_weights else None,
            )
            done = [item.name for item in result.repairs]
            if case.repair not in done or not result.ok:
                wrong += 1
                print(f"{case.name}: {done}, {[item.reason for item in result.skipped]}"[:300], file=sys.stderr)
                continue
            told = {"name": case.name, "repair": case.repair, "bound": case.bound}
            (folder / "case.json").write_text(json.dumps(told))
    print(f"{count - wrong} of {count} broken adapters were mended, by {len(set(_repairs(out)))} repairs")
    wrong += for_mlx(out)
    return 1 if wrong else 0


def for_mlx(out: Path) -> int:
    """Write what MLX-LM's own reader is to take: adapters of PEFT's, and the same in its layout."""
    tiny = builders.tiny_config
    own = layouts.adapter_of()
    everywhere = tiny(target_modules=list(layouts.ALL), r=layouts.RANK)
    last = {name: tensor for name, tensor in own.items() if ".layers.1." in name}
    with tempfile.TemporaryDirectory() as place:
        _, single = forms.one_by_one(Path(place) / "a")
        experts = json.loads((Path(place) / "a" / CONFIG).read_text())
    cases: list[tuple[Tensors, Mapping[str, Any], Path]] = [
        (numbers(), tiny(), builders.TINY_BASE),
        (numbers(), tiny(use_rslora=True, lora_alpha=5), builders.TINY_BASE),
        (own, everywhere, builders.TINY_BASE),
        (last, {**everywhere, "layers_to_transform": [1]}, builders.TINY_BASE),
        (single, experts, forms.QWEN),
    ]
    wrong = 0
    for at, (tensors, config, base) in enumerate(cases):
        folder = out / f"mlx-{at}"
        builders.write_adapter(folder / "peft", tensors, config)
        (folder / "base.json").write_text(base.read_text())
        result = lora_packer.fix(folder / "peft", folder / "mlx", base_config=base, target="mlx")
        back = lora_packer.fix(folder / "mlx", folder / "back", base_config=base, target="peft")
        again = lora_packer.fix(folder / "back", folder / "mlx-again", base_config=base, target="mlx")
        same = all(
            (folder / "mlx" / name).read_bytes() == (folder / "mlx-again" / name).read_bytes()
            for name in ("adapters.safetensors", CONFIG)
        )
        if not (result.ok and back.ok and again.ok and same):
            wrong += 1
            print(f"mlx {at}: {[item.reason for item in result.skipped + back.skipped]}"[:300], file=sys.stderr)
    print(
        f"{len(cases) - wrong} of {len(cases)} adapters of PEFT are in MLX-LM's layout, and came back from it the same"
    )
    return wrong


def _repairs(out: Path) -> Iterator[str]:
    for path in out.glob("*/case.json"):
        yield json.loads(path.read_text())["repair"]


if __name__ == "__main__":
    sys.exit(main())
