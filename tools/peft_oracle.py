"""PEFT itself as the judge: tiny random base models, the adapter that it writes for a config, and what it does with it.

Needs torch, transformers and peft (``pip install -e '.[proof]'``); nothing is downloaded.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from safetensors.torch import save_file

Raw = dict[str, Any]
Shapes = dict[str, list[int]]

_LLAMA: Raw = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
}

BASES: Mapping[str, Raw] = {
    "llama": _LLAMA,
    "llama-tied": _LLAMA | {"tie_word_embeddings": True},
    "mamba": {
        "model_type": "mamba",
        "hidden_size": 32,
        "state_size": 4,
        "num_hidden_layers": 2,
        "vocab_size": 64,
        "time_step_rank": 4,
    },
    "nemotron_h": {
        "model_type": "nemotron_h",
        "hidden_size": 32,
        "intermediate_size": 48,
        "vocab_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "mamba_num_heads": 4,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 2,
        "hybrid_override_pattern": "M*-",
        "layers_block_type": ["mamba", "attention", "mlp"],
        "num_hidden_layers": 3,
        "use_mamba_kernels": False,
    },
    "lfm2": {
        "model_type": "lfm2",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 64,
        "layer_types": ["conv", "full_attention"],
        "block_auto_adjust_ff_dim": False,
    },
    "qwen3_moe": {
        "model_type": "qwen3_moe",
        "hidden_size": 32,
        "intermediate_size": 48,
        "moe_intermediate_size": 24,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 64,
    },
    # In transformers 4 every expert is a module of its own.
    "qwen3_moe-older": {
        "model_type": "qwen3_moe",
        "hidden_size": 32,
        "moe_intermediate_size": 24,
        "num_experts": 3,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 64,
    },
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32, "vocab_size": 64},
    "bert": {
        "model_type": "bert",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 64,
        "max_position_embeddings": 32,
    },
    "whisper": {
        "model_type": "whisper",
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "vocab_size": 64,
        "num_mel_bins": 8,
        "max_source_positions": 16,
        "max_target_positions": 16,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    },
}

_CLASSES = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoModel",
}
_USUAL_CLASS = {"bert": "AutoModelForMaskedLM", "whisper": "AutoModelForSpeechSeq2Seq"}


@dataclass(frozen=True)
class Outcome:
    """What PEFT did with an adapter.

    Attributes:
        verdict: ``raises``, ``loads``, ``no-effect`` (the output is the base model's), ``nan``, or ``incomplete``
            (tensors are missing, or have no place).
        why: the error, and PEFT's file and line that raised it; or the tensors.
    """

    verdict: str
    why: str = ""


def head_of(task: Any, base: str) -> str:
    """The class of transformers that a task type asks for."""
    usual = _USUAL_CLASS.get(base, "AutoModelForCausalLM")
    return _CLASSES.get(task, usual) if isinstance(task, str) else usual


@cache
def _model(base: str, head: str) -> Any:
    torch.manual_seed(7)
    values = dict(BASES[base])
    config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    if head == "AutoModelForSequenceClassification":
        config.pad_token_id = 0
    return getattr(transformers, head).from_config(config).eval()


@cache
def base_config(base: str) -> Raw:
    """The base model's ``config.json``, as transformers writes it."""
    found: Raw = json.loads(_model(base, head_of(None, base)).config.to_json_string(use_diff=False))
    return found


def _output(model: Any, base: str) -> Any:
    ids = torch.tensor([[3, 5, 7, 11, 13, 1]])
    with torch.no_grad():
        if base == "whisper":
            features = torch.linspace(-1, 1, 8 * 32).reshape(1, 8, 32)
            return model(input_features=features, decoder_input_ids=ids)[0]
        return model(input_ids=ids)[0]


@cache
def _plain(base: str, head: str) -> Any:
    return _output(_model(base, head), base)


def written(base: str, raw: Raw) -> dict[str, Any] | None:
    """The tensors that PEFT writes for this config, filled with noise; None where it makes no such adapter."""
    from peft import LoraConfig, get_peft_model
    from peft.utils import get_peft_model_state_dict

    model = copy.deepcopy(_model(base, head_of(raw.get("task_type"), base)))
    try:
        config = LoraConfig.from_peft_type(**copy.deepcopy(raw))
        state = get_peft_model_state_dict(get_peft_model(model, config))
    except Exception:  # noqa: BLE001 - whatever PEFT raises, it writes no adapter
        return None
    noise = torch.Generator().manual_seed(3)
    return {name: torch.randn(tensor.shape, generator=noise) * 0.2 + 0.1 for name, tensor in state.items()}


def filled(shapes: Mapping[str, tuple[int, ...] | list[int]]) -> dict[str, Any]:
    """Tensors of these shapes, filled with noise."""
    noise = torch.Generator().manual_seed(3)
    return {name: torch.randn(tuple(shape), generator=noise) * 0.2 + 0.1 for name, shape in shapes.items()}


def judge(base: str, raw: Raw, tensors: Mapping[str, Any]) -> Outcome:
    """Load the adapter as a user would, and look at the output."""
    from peft import PeftModel

    head = head_of(raw.get("task_type"), base)
    model = copy.deepcopy(_model(base, head))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "adapter_config.json").write_text(json.dumps(raw))
        save_file(dict(tensors), Path(folder, "adapter_model.safetensors"))
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                loaded = PeftModel.from_pretrained(model, folder).eval()
                output = _output(loaded, base)
        except Exception as error:  # noqa: BLE001 - whatever PEFT raises is its verdict
            return Outcome("raises", _where(error))
        missing = next((str(w.message) for w in caught if "missing adapter keys" in str(w.message)), None)
        if missing:
            return Outcome("incomplete", missing[:200])
        left = _left_over(loaded, tensors)
        if left:
            return Outcome("incomplete", f"no place for {left}")
    if not torch.isfinite(output).all():
        return Outcome("nan")
    plain = _plain(base, head)
    same = output.shape == plain.shape and torch.allclose(output, plain, atol=1e-6)
    return Outcome("no-effect" if same else "loads")


def _left_over(loaded: Any, tensors: Mapping[str, Any]) -> str | None:
    """The first tensor of the file whose values are nowhere in the loaded model."""
    sums = {
        round(float(value.double().sum()), 4) for value in [*loaded.parameters(), *loaded.buffers()] if value.numel()
    }
    for name, tensor in tensors.items():
        if round(float(tensor.double().sum()), 4) not in sums:
            return name
    return None


def _where(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/peft/" in frame.filename]
    place = f"{frames[-1].filename.rpartition('/peft/')[2]}:{frames[-1].lineno}" if frames else "elsewhere"
    text = " ".join(str(error).split())[:120]
    return f"{type(error).__name__} at {place}: {text}"


def versions() -> dict[str, str]:
    """What the answers come from."""
    import peft

    return {
        "peft": peft.__version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__.partition("+")[0],
    }


def quiet() -> None:
    """One thread, and no word of the libraries."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    sys.setrecursionlimit(2000)
