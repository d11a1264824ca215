"""PEFT itself as the judge of where a file's tensors land, on the meta device: no weights are made.

Needs torch, transformers and peft of any releases: 4.51 to 5.24 and 0.15 to 0.21 are what it is used with. It reads
cases as JSON lines, ``{"id", "base", "config", "tensors": {name: shape}, "class"?}``, and writes a line for each:
``{"id", "loads": "all"|"part"|"none"|"raises"|"unbuilt", "dropped", "missing", "why"}``. It imports nothing of
lora_packer, so that it runs in an environment of its own.

usage: python tools/loading_oracle.py CASES OUT
"""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import torch
import transformers
from transformers import AutoConfig

warnings.simplefilter("ignore")
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)

Case = Mapping[str, Any]

_OF_TASK = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoModel",
}
_USUAL = (
    "AutoModelForImageTextToText",
    "AutoModelForMultimodalLM",
    "AutoModelForCausalLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForMaskedLM",
)
_TOWERS = {"kimi_k2": "deepseek_v3"}


_built: dict[str, Any] = {}


def build(case: Case) -> Any:
    """Return the model that the case is about on the meta device; the last one is kept, for the next case."""
    key = json.dumps([case["base"], case.get("class"), case["config"].get("task_type")])
    if key not in _built:
        _built.clear()
        _built[key] = _made(case)
    return copy.deepcopy(_built[key])


def _made(case: Case) -> Any:
    raw = copy.deepcopy(case["base"])
    for name in ("auto_map", "quantization_config"):
        raw.pop(name, None)
    model_type = raw.pop("model_type")
    config = AutoConfig.for_model(_TOWERS.get(model_type, model_type), **raw)
    named = case.get("class") or ""
    if named == "text-only":
        config = config.get_text_config()
    cls = _class(named, case["config"].get("task_type"), raw.get("architectures") or [None], config)
    with torch.device("meta"):
        return cls._from_config(config) if hasattr(cls, "_from_config") else cls(config)


def _class(named: str, task: str | None, architectures: list[Any], config: Any) -> Any:
    if named.startswith("Auto"):
        return getattr(transformers, named)._model_mapping[type(config)]
    if task in _OF_TASK and type(config) in getattr(transformers, _OF_TASK[task])._model_mapping.keys():  # noqa: SIM118
        return getattr(transformers, _OF_TASK[task])._model_mapping[type(config)]
    found = getattr(transformers, named or str(architectures[0]), None)
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
        return found
    for auto in _USUAL:
        mapping = getattr(transformers, auto, None)
        if mapping is not None and type(config) in mapping._model_mapping.keys():  # noqa: SIM118 - a lazy mapping
            cls = mapping._model_mapping[type(config)]
            return cls[0] if isinstance(cls, tuple) else cls
    raise ValueError(f"no class for {type(config).__name__}")


def judge(case: Case) -> dict[str, Any]:
    """Return what PEFT does with one case."""
    try:
        model = build(case)
    except Exception as error:  # noqa: BLE001 - whatever a model's own code raises
        return {"id": case["id"], "loads": "unbuilt", "why": _short(error)}
    try:
        result, given = load(model, case)
    except Exception as error:  # noqa: BLE001
        return {"id": case["id"], "loads": "raises", "why": _short(error)}
    dropped = sorted(key for key in result.unexpected_keys if ".lora_" in key)
    landed = [key for key in given if ".lora_" in key and key not in set(dropped)]
    missing = sorted(key for key in result.missing_keys if ".lora_" in key)
    loads = "all" if not dropped else "part" if landed else "none"
    if not landed and not dropped:
        loads = "none"
    return {"id": case["id"], "loads": loads, "dropped": dropped[:3], "missing": missing[:3], "why": ""}


def load(model: Any, case: Case) -> tuple[Any, list[str]]:
    """Load the case's adapter; return torch's answer and the names that PEFT gave it."""
    seen: list[Any] = []
    plain = torch.nn.Module.load_state_dict

    def noting(self: Any, state: Any, *args: Any, **kwargs: Any) -> Any:
        result = plain(self, state, *args, **kwargs)
        seen.append((result, list(state)))
        return result

    tensors = {name: torch.empty(shape, device="meta") for name, shape in case["tensors"].items()}
    module = peft.utils.save_and_load
    original = module.safe_load_file
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "adapter_config.json").write_text(json.dumps(case["config"]), encoding="utf-8")
        Path(folder, "adapter_model.safetensors").write_bytes(b"")
        module.safe_load_file = lambda *_, **__: dict(tensors)
        torch.nn.Module.load_state_dict = noting
        try:
            with torch.device("meta"):
                peft.PeftModel.from_pretrained(model, folder)
        finally:
            module.safe_load_file = original
            torch.nn.Module.load_state_dict = plain
    result, given = seen[-1]
    return result, given


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip()}"[:400]


def main() -> int:
    """Judge every case of a file."""
    given, written = Path(sys.argv[1]), Path(sys.argv[2])
    with given.open(encoding="utf-8") as cases, written.open("w", encoding="utf-8") as out:
        print(json.dumps({"peft": peft.__version__, "transformers": transformers.__version__}), file=out)
        for line in cases:
            print(json.dumps(judge(json.loads(line))), file=out, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
