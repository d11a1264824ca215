"""PEFT's rules, each in its smallest case: what PEFT writes for it, recorded as data.

usage: python tools/record_rules.py [--only older] [--write fixtures/peft-rules.json]

Each rule names the line of PEFT that makes it. Run with PEFT 0.21.2 for the rules of today; ``--only older`` is for an
environment with a PEFT before 0.20, and adds to the file what that one does differently.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import peft_oracle as oracle

Raw = dict[str, Any]


class Rule(NamedTuple):
    """One rule: its sentence, where PEFT has it, and an adapter that shows it."""

    sentence: str
    source: str
    base: str
    changes: Raw


UTILS = "tuners/tuners_utils.py"
LAYER = "tuners/lora/layer.py"
QV = {"target_modules": ["q_proj", "v_proj"]}

RULES: Sequence[Rule] = (
    Rule("a name is a whole dotted suffix", f"{UTILS}:2376", "llama", {"target_modules": ["proj", "q_proj"]}),
    Rule(
        "a string is a pattern for the whole path",
        f"{UTILS}:2371",
        "llama",
        {"target_modules": r".*\.[0-2]\..*[p-q]_proj"},
    ),
    Rule(
        "a range holds its last letter",
        f"{UTILS}:2371",
        "llama",
        {"target_modules": r"model\.layers\.[0-2]\.self_attn\.[a-v]_proj"},
    ),
    Rule("exclude_modules wins", f"{UTILS}:2354", "llama", QV | {"exclude_modules": ["layers.1.self_attn.v_proj"]}),
    Rule(
        "modules_to_save is not adapted",
        f"{UTILS}:2363",
        "llama",
        {"target_modules": ["lm_head", "q_proj"], "modules_to_save": ["lm_head"]},
    ),
    Rule(
        "nor is what lies below it",
        f"{UTILS}:2363",
        "llama",
        {"target_modules": ["up_proj", "q_proj"], "modules_to_save": ["mlp"]},
    ),
    Rule("it is saved whole, whatever ends so", "utils/other.py:1088", "llama", QV | {"modules_to_save": ["head"]}),
    Rule(
        "layers_to_transform takes the numbered layers", f"{UTILS}:2384", "llama", QV | {"layers_to_transform": [0, 2]}
    ),
    Rule("one number is a list of one", f"{UTILS}:2407", "llama", QV | {"layers_to_transform": 1}),
    Rule(
        "a full path is targeted whatever its layer",
        f"{UTILS}:2372",
        "llama",
        {"target_modules": ["v_proj", "model.layers.1.self_attn.q_proj"], "layers_to_transform": [0]},
    ),
    Rule(
        "layers_pattern says which number is the layer's",
        f"{UTILS}:2396",
        "llama",
        QV | {"layers_to_transform": [1], "layers_pattern": "layers"},
    ),
    Rule("the first number is the layer's", f"{UTILS}:2391", "llama", QV | {"layers_to_transform": [1]}),
    Rule("all-linear leaves out the output head", f"{UTILS}:2469", "llama", {"target_modules": "all-linear"}),
    Rule(
        "all-linear leaves out a sequence classifier's head",
        f"{UTILS}:2477",
        "llama",
        {"target_modules": "all-linear", "task_type": "SEQ_CLS"},
    ),
    Rule(
        "all-linear without a task type takes what is linear",
        f"{UTILS}:2450",
        "bert",
        {"target_modules": "all-linear", "task_type": "FEATURE_EXTRACTION"},
    ),
    Rule("ALL-LINEAR is the same", f"{UTILS}:2441", "gpt2", {"target_modules": "ALL-LINEAR"}),
    Rule("SEQ_CLS saves the classifier", "peft_model.py:1830", "llama", QV | {"task_type": "SEQ_CLS"}),
    Rule(
        "TOKEN_CLS saves the classifier",
        "peft_model.py:2680",
        "bert",
        {"target_modules": ["query"], "task_type": "TOKEN_CLS"},
    ),
    Rule(
        "QUESTION_ANS saves qa_outputs",
        "peft_model.py:2915",
        "bert",
        {"target_modules": ["query"], "task_type": "QUESTION_ANS"},
    ),
    Rule(
        "qa_outputs besides what is saved",
        "peft_model.py:2920",
        "llama",
        QV | {"task_type": "QUESTION_ANS", "modules_to_save": ["norm"]},
    ),
    Rule(
        "rank_pattern: the first key that matches wins",
        "utils/other.py:1527",
        "llama",
        QV | {"rank_pattern": {"q_proj": 2, ".*": 6}},
    ),
    Rule(
        "its keys end at the path's end",
        "utils/other.py:1527",
        "llama",
        QV | {"rank_pattern": {"q": 2, "self_attn.v_proj": 6}},
    ),
    Rule("token 0 is a token", "tuners/trainable_tokens/layer.py:157", "llama", QV | {"trainable_token_indices": [0]}),
    Rule(
        "tokens of a named embedding",
        "utils/other.py:1088",
        "llama",
        QV | {"trainable_token_indices": {"tokens": [1, 2]}},
    ),
    Rule("lora_bias is lora_B's", f"{LAYER}:264", "llama", QV | {"lora_bias": True}),
    Rule("DoRA adds a vector", "tuners/lora/dora.py:130", "llama", QV | {"use_dora": True}),
    Rule(
        "DoRA on an embedding",
        "tuners/lora/dora.py:186",
        "llama",
        {"target_modules": ["embed_tokens"], "use_dora": True},
    ),
    Rule(
        "DoRA's vector of a convolution has its dimensions",
        "tuners/lora/dora.py:212",
        "whisper",
        {"target_modules": ["conv1"], "use_dora": True},
    ),
    Rule("a convolution's halves", f"{LAYER}:1625", "whisper", {"target_modules": ["conv1", "conv2"]}),
    Rule(
        "a grouped convolution's lora_B is grouped", f"{LAYER}:1627", "lfm2", {"target_modules": ["conv.conv"], "r": 64}
    ),
    Rule(
        "Conv1D lies transposed",
        f"{LAYER}:2758",
        "gpt2",
        {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True},
    ),
    Rule("KaSA adds a diagonal", "tuners/lora/variants.py:1482", "llama", QV | {"kasa_config": {}}),
    Rule("and to no Conv1D", "tuners/lora/variants.py:1450", "gpt2", {"target_modules": ["c_attn"], "kasa_config": {}}),
    Rule("and to no embedding", f"{LAYER}:213", "llama", {"target_modules": ["embed_tokens"], "kasa_config": {}}),
    Rule(
        "BD-LoRA divides a half",
        "tuners/lora/variants.py:999",
        "llama",
        QV | {"use_bdlora": {"target_modules_bd_a": ["q_proj"], "target_modules_bd_b": ["v_proj"], "nblocks": 2}},
    ),
    Rule(
        "VeLoRA's groups are rounded up", "tuners/lora/velora.py:24", "llama", QV | {"velora_config": {"num_groups": 5}}
    ),
    Rule("MonteCLoRA's state", "tuners/lora/monteclora.py:120", "llama", QV | {"monteclora_config": {}}),
    Rule(
        "PiSSA has no more ranks than the matrix",
        f"{LAYER}:441",
        "llama",
        {"target_modules": ["k_proj"], "r": 40, "init_lora_weights": "pissa"},
    ),
    Rule("layer_replication renumbers", f"{UTILS}:2570", "llama", QV | {"layer_replication": [[0, 2], [1, 3]]}),
    Rule("an empty range is no layer", f"{UTILS}:2572", "llama", QV | {"layer_replication": [[2, 2], [0, 1]]}),
    Rule("a number below 0 counts from the end", f"{UTILS}:2574", "llama", QV | {"layer_replication": [[-1, 2]]}),
    Rule(
        "layer_replication follows bert",
        f"{UTILS}:2550",
        "bert",
        {"target_modules": ["query"], "layer_replication": [[0, 2], [0, 1]]},
    ),
    Rule(
        "target_parameters: fused experts",
        f"{LAYER}:2455",
        "qwen3_moe",
        {"target_modules": [], "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]},
    ),
    Rule("bias: all", "tuners/tuners_utils.py:1549", "lfm2", {"target_modules": ["q_proj"], "bias": "all"}),
    Rule("bias: lora_only", "tuners/tuners_utils.py:1555", "bert", {"target_modules": ["query"], "bias": "lora_only"}),
)

OLDER: Sequence[Rule] = (
    Rule(
        "before 0.20 the last number is the layer's",
        f"{UTILS}: check_target_module_exists",
        "qwen3_moe-older",
        {"target_modules": ["up_proj"], "layers_to_transform": [1]},
    ),
    Rule(
        "before 0.20 layers_pattern takes its last place",
        f"{UTILS}: check_target_module_exists",
        "qwen3_moe-older",
        {"target_modules": ["up_proj"], "layers_to_transform": [1], "layers_pattern": "(?:layers|experts)"},
    ),
)


def recorded(rule: Rule) -> Raw:
    """What PEFT makes of the rule's adapter: its tensors' shapes, or the error."""
    raw = {"peft_type": "LORA", "task_type": None, "r": 4, "lora_alpha": 8, **rule.changes}
    state = oracle.written(rule.base, raw)
    shapes = None if state is None else {name: list(tensor.shape) for name, tensor in state.items()}
    return {"rule": rule.sentence, "source": rule.source, "base": rule.base, "config": raw, "writes": shapes}


def main() -> int:
    """Record; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=["older"])
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    oracle.quiet()
    found = [recorded(rule) for rule in (OLDER if given.only else RULES)]
    version = oracle.versions()["peft"]
    for row in found:
        print(f"{row['rule']}: " + ("refused" if row["writes"] is None else f"{len(row['writes'])} tensors"))
    if given.write:
        bases = {row["base"]: oracle.base_config(row["base"]) for row in found}
        content = json.loads(given.write.read_text()) if given.write.exists() else {"bases": {}, "rules": {}}
        content["bases"] |= {name: base for name, base in bases.items() if name not in content["bases"]}
        content["rules"][version] = found
        content["made_by"] = "tools/record_rules.py"
        given.write.write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
