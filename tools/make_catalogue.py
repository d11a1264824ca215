"""Write ``lora_packer/base_model/catalogue.json`` from ``fixtures/base-configs/<org>--<name>.json``.

Every config whose model type has a definition is taken, without the fields that are known not to decide a shape.

usage: python tools/make_catalogue.py [--check]     (--check: print what differs, exit 1)
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from generated import settle

from lora_packer.base_model import ARCHITECTURES

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "fixtures" / "base-configs"
CATALOGUE = ROOT / "lora_packer" / "base_model" / "catalogue.json"

# What never decides a shape. A field that is not named here stays: too much costs some bytes, too little a wrong shape.
_NOT_SHAPES = re.compile(
    r"""(.*_)?(rope|rotary|dropout|torch_dtype|dtype|token_ids?|token_index|eps|epsilon|initializer|init|act|activation
    |softcapping|softcap|cache|quantization|compression|auto_map|pdrop|clamp|swiglu|loss|std)(_.*)?
    | (id2label|label2id|_name_or_path|name_or_path|transformers_version|problem_type|return_dict|gradient_checkpointing
    |output_attentions|output_hidden_states|output_router_logits|pretraining_tp|tie_word_embeddings|use_sliding_window
    |sliding_window|max_window_layers|attn_implementation|attn_logit_softcapping|query_pre_attn_scalar|chunk_size_.*
    |is_decoder|is_encoder_decoder|add_cross_attention|cross_attention_hidden_size|pruned_heads|task_specific_params
    |finetuning_task|prefix|sep_token|tokenizer_class|norm_topk_prob|scoring_func|topk_method|n_group|topk_group
    |routed_scaling_factor|num_experts_per_tok|seq_aux|.*_penalty|beam.*|num_beams.*|.*_length|temperature|top_[kp]
    |do_sample|early_stopping|diversity.*|bad_words_ids|forced_.*|no_repeat.*|encoder_no.*|exponential.*|typical_p
    |suppress_tokens|begin_suppress.*|remove_invalid.*|return_dict.*|torchscript|tf_.*|use_bfloat16|num_return.*)""",
    re.VERBOSE,
)


def shape_fields(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config without what does not decide a shape, nested configs treated alike."""
    kept: dict[str, Any] = {}
    for name, value in config.items():
        if value is None or _NOT_SHAPES.fullmatch(name):
            continue
        kept[name] = shape_fields(value) if isinstance(value, dict) else value
    return kept


def _has_lost_a_tower(config: dict[str, Any]) -> bool:
    """Whether a multimodal model's config came without its vision part: the class default is not that model's."""
    return "text_config" in config and "vision_config" not in config


def catalogue() -> str:
    """Return the catalogue's text, one model a line."""
    lines = []
    for path in sorted(SOURCE.glob("*--*.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.get("model_type") in ARCHITECTURES and not _has_lost_a_tower(config):
            kept = json.dumps(shape_fields(config), separators=(",", ":"))
            lines.append(f"{json.dumps(path.stem.replace('--', '/', 1))}: {kept}")
    models = ",\n".join(lines)
    return f'{{"made_by": "tools/make_catalogue.py", "models": {{\n{models}\n}}}}\n'


def main() -> int:
    """Write the catalogue, or check it."""
    return settle({CATALOGUE: catalogue()})


if __name__ == "__main__":
    sys.exit(main())
