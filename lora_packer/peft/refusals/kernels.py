"""Layers that a model does not use through their ``forward`` alone, where LoRA acts.

Where it takes a layer's weights, PEFT refuses some by the model's type (tuners/tuners_utils.py:145-164 of 0.21.2), and
on the others LoRA loads, is saved, and does nothing. Where it asks the layer for more, PEFT's layer may not have it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lora_packer.base_model import Modules
from lora_packer.peft.attention import OUT_PROJ, is_attention
from lora_packer.peft.refusals.refusal import Refusal
from lora_packer.redact import escape

_MAMBA_TYPES = frozenset({"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"})
_NOT_IN_MAMBA = frozenset({"out_proj", "conv1d"})

# Model type -> the short convolution whose weight transformers 5.24 hands to a function (modeling_<type>.py).
# transformers 4 calls the module itself where the causal_conv1d package is not installed.
_CONVOLUTIONS: Mapping[str, str] = {
    "bamba": "conv1d",
    "granitemoehybrid": "conv1d",
    "jamba": "conv1d",
    "lfm2": "conv.conv",
    "lfm2_moe": "conv.conv",
    "qwen3_5": "conv1d",
    "qwen3_5_moe": "conv1d",
    "qwen3_5_moe_text": "conv1d",
    "qwen3_5_text": "conv1d",
    "qwen3_next": "conv1d",
    "zamba2": "conv1d",
}

# Model type -> convolutions of which the model asks the stride, which PEFT's layer has not (modeling_whisper.py:609 and
# its relatives in transformers 5.24): the adapter loads, and the first prompt raises.
_ASKED_FOR_STRIDE: Mapping[str, tuple[str, ...]] = {
    "qwen2_audio": (".conv1", ".conv2"),
    "voxtral": (".conv1", ".conv2"),
    "whisper": (".conv1", ".conv2"),
}


def past_their_forward(
    base_model_type: str, modules: Modules, targeted: Mapping[str, tuple[int, float]]
) -> Iterator[Refusal]:
    """Yield the targeted layers that this model never calls."""
    unused = [path for path in targeted if path.endswith(f".{OUT_PROJ}") and is_attention(path[:-9], modules)]
    if unused and len(unused) == len(targeted):
        yield _inside_attention(unused[0])
        return
    asked = _ASKED_FOR_STRIDE.get(base_model_type)
    if asked is not None:
        broken = next((path for path in targeted if path.endswith(asked) and modules[path].kind == "conv"), None)
        if broken is not None:
            yield _broken(base_model_type, broken)
        return
    convolution = _CONVOLUTIONS.get(base_model_type)
    if convolution is None and base_model_type not in _MAMBA_TYPES:
        return
    owners = [owner_of(path, modules) for path in targeted]
    if convolution is None:
        refused = next((path for path in owners if path.rpartition(".")[2] in _NOT_IN_MAMBA), None)
        if refused is not None:
            yield _refused(base_model_type, refused)
        return
    idle = [path for path in owners if path.endswith(f".{convolution}")]
    if idle:
        yield _idle(base_model_type, idle, every=len(idle) == len(owners))


def owner_of(path: str, modules: Modules) -> str:
    """Return the path of the module that PEFT wraps: of a parameter that is named itself, the one that holds it."""
    module = modules.get(path)
    return path.rpartition(".")[0] if module is None or module.kind == "parameter" else path


def _refused(base_model_type: str, path: str) -> Refusal:
    name = path.rpartition(".")[2]
    message = f"target_modules matches '{escape(path, 80)}': PEFT takes no {name} in {base_model_type}, whose kernels"
    message += " do not call it"
    if base_model_type == "nemotron_h":
        message += " (PEFT 0.19.1 did not yet refuse it there)"
    hint = f"Take {name} out of target_modules, and train again without it."
    source = "tuners/tuners_utils.py:160"
    return Refusal("target_modules", message, None, escape(path), hint, source, kind="target", only_today=True)


def _broken(base_model_type: str, path: str) -> Refusal:
    message = (
        f"target_modules matches '{escape(path, 80)}', of which {base_model_type} asks the stride, and PEFT's layer"
    )
    message += " none: the adapter loads, and the first prompt raises"
    hint = "Take the convolution out of target_modules, and train again without it."
    return Refusal("target_modules", message, None, escape(path), hint, "tuners/lora/layer.py:1545", kind="target")


def _inside_attention(path: str) -> Refusal:
    message = f"target_modules matches '{escape(path, 80)}' alone, which torch.nn.MultiheadAttention does not call: it "
    hint = f"Train again with '{escape(path.rpartition('.')[0].rpartition('.')[2])}' itself in target_modules."
    source = "tuners/lora/layer.py:1904"
    return Refusal("target_modules", message + "would serve the base model", None, path, hint, source, "no-effect")


def _idle(base_model_type: str, paths: list[str], *, every: bool) -> Refusal:
    effect = "it would serve the base model" if every else "there the base model answers"
    message = (
        f"target_modules matches '{escape(paths[0], 80)}', and transformers 5 takes the weights of the {len(paths)} "
        f"short convolutions of {base_model_type} past LoRA: {effect}"
    )
    hint = "Take the convolution out of target_modules, and train again without it."
    return Refusal(
        "target_modules",
        message,
        None,
        escape(paths[0]),
        hint,
        "tuners/lora/layer.py:1797",
        "no-effect",
        "error" if every else "warning",
    )
