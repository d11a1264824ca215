"""The cases of ``tools/sweep_fields.py``: plain configs, values for every field, and some fields together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Raw = dict[str, Any]

PLAIN: Mapping[str, Raw] = {
    "llama": {"target_modules": ["q_proj", "v_proj"]},
    "llama-tied": {"target_modules": ["q_proj", "v_proj"]},
    "mamba": {"target_modules": ["in_proj", "x_proj"]},
    "nemotron_h": {"target_modules": ["q_proj", "in_proj"]},
    "lfm2": {"target_modules": ["conv.conv"], "r": 32, "lora_alpha": 64},
    "qwen3_moe": {"target_modules": [], "target_parameters": ["mlp.experts.gate_up_proj"]},
    "gpt2": {"target_modules": ["c_attn"], "fan_in_fan_out": True},
    "whisper": {"target_modules": ["conv1", "conv2"], "task_type": None},
    "bert": {"target_modules": ["query", "dense"], "task_type": None},
}

# On every field.
VALUES: Sequence[Any] = (
    None, True, False, 0, 1, 2, 3, -1, 0.0, 0.5, 1.5, 1e30,
    "", "x", "0.1", "true", "none", "q_proj",
    [], [0], [1], [-1], ["q_proj"], ["x"], [""], [None], [[0, 1]],
    {}, {"x": 1}, {"q_proj": 4}, {"q_proj": "x"}, {"q_proj": [1]}, {"x": None},
)  # fmt: skip

# On one field besides.
OWN: Mapping[str, Sequence[Any]] = {
    "init_lora_weights": (
        "gaussian",
        "Gaussian",
        "eva",
        "EVA",
        "olora",
        "OLoRA",
        "pissa",
        "PiSSA",
        "pissa_niter_4",
        "pissa_niter_x",
        "pissa_niter_",
        "pissa_niter_0",
        "pissa_niter_-1",
        "pissa_x",
        "pissa_niter_1_niter_2",
        "corda",
        "corda_x",
        "CorDA",
        "loftq",
        "LoftQ",
        "orthogonal",
        "Orthogonal",
        "mica",
        "MiCA",
        "lora_ga",
        "LORA_GA",
        "kaiming",
        "True",
        "false",
    ),
    "bias": ("all", "lora_only", "ALL", "lora_bias"),
    "task_type": (
        "CAUSAL_LM",
        "SEQ_CLS",
        "SEQ_2_SEQ_LM",
        "TOKEN_CLS",
        "QUESTION_ANS",
        "FEATURE_EXTRACTION",
        "causal_lm",
        "IMAGE_CLS",
    ),
    "target_modules": (
        "all-linear",
        "ALL-LINEAR",
        ".*q_proj",
        "(",
        "q_proj|v_proj",
        ".*(q_proj|v_proj)",
        ["q_proj", "q_proj"],
        ["model.layers.0.self_attn.q_proj"],
        ["layers.1.self_attn.q_proj"],
        ["mlp"],
        ["embed_tokens"],
        ["lm_head"],
        ["layers"],
        ["0"],
        ["norm"],
        ["q_proj", "nothing"],
        ["q_proj", "mlp"],
        "model.layers.[0-2].self_attn.q_proj",
        ["q_proj", 3],
        "*",
        [["q_proj"]],
    ),
    "exclude_modules": (["v_proj"], ".*v_proj", "(", ".*", ["q_proj", "v_proj"], [3], "*", ["layers"]),
    "target_parameters": (
        ["self_attn.o_proj.weight"],
        ["mlp.experts.gate_up_proj"],
        ["mlp.gate.weight"],
        ["norm.weight"],
        ["self_attn.q_proj.weight"],
        ["nothing.weight"],
        ["o_proj.weight", "o_proj.weight"],
        "o_proj.weight",
        ["lm_head.weight"],
        ["weight"],
    ),
    "layers_to_transform": ([0, 1], [5], [0, 5], "0", ["0"], [True], [0.0], [-1, 0], 0, 2.0, [[0]], {"0": 1}),
    "layers_pattern": ("layers", ["layers"], "h", "(", ["h", "layers"]),
    "rank_pattern": (
        {"q_proj": 0},
        {"q_proj": -1},
        {"q_proj": 2.0},
        {"q_proj": True},
        {"(": 4},
        {"zzz": 4},
        {".*": 8},
        {"q_proj": None},
        {"zzz": None},
        {"zzz": "x"},
        {"zzz": 0},
        {"": 4},
        {"q_proj": 8, "v_proj": 2},
    ),
    "alpha_pattern": (
        {"v_proj": 0},
        {"q_proj": 0, "v_proj": 0},
        {".*": 0},
        {"q_proj": 0.5},
        {"q_proj": "8"},
        {"(": 4},
        {"v_proj": None},
        {"zzz": 0},
        {"zzz": "x"},
        {"zzz": None},
        {"q_proj": True},
        {"q_proj": -4},
        {"q_proj": [4]},
    ),
    "layer_replication": (
        [[0, 3]],
        [[0, 2], [1, 3]],
        [[2, 2]],
        [[2, 2], [0, 3]],
        [[0, 9]],
        [[2, 1]],
        [[2, 1], [0, 3]],
        [[0, 1, 2]],
        [[0]],
        [["0", "1"]],
        [[-1, 2]],
        [[0, 2.0]],
        [[0, True]],
        ["ab"],
        [{"0": 1, "1": 2}],
        [[3, 3], [0, 1]],
    ),
    "modules_to_save": (
        ["lm_head"],
        ["embed_tokens"],
        ["mlp"],
        ["layers"],
        ["q_proj", "v_proj"],
        ["head"],
        ["lm_head", "lm_head"],
        ["norm"],
        ["down_proj"],
        ["0"],
        ["self_attn"],
        "lm_head",
        {"lm_head": 1},
        [3],
        ["lm_head", "nothing"],
        ["model"],
        ["default"],
    ),
    "trainable_token_indices": (
        [1, 2],
        [63],
        [64],
        [1, 1],
        [2, 1],
        [1.0],
        [True],
        ["1"],
        {"embed_tokens": [1]},
        {"embed_tokens": [0]},
        {"wte": [1]},
        {"lm_head": [1]},
        {"embed_tokens": []},
        {"embed_tokens": 1},
        {"model.embed_tokens": [1]},
        {"norm": [1]},
        {"tokens": [1]},
        {"embed_tokens": [64]},
        {"embed_tokens": [1], "lm_head": [1]},
        {"embed_tokens": [1], "wte": [1]},
    ),
    "use_bdlora": (
        {"target_modules_bd_a": ["q_proj"], "target_modules_bd_b": ["v_proj"], "nblocks": 2},
        {"target_modules_bd_a": ["q_proj"], "nblocks": 2},
        {"target_modules_bd_a": ["q_proj"], "nblocks": 2, "match_strict": False},
        {"target_modules_bd_a": ["q_proj"], "target_modules_bd_b": ["q_proj"], "nblocks": 2},
        {"target_modules_bd_a": ["q_"], "target_modules_bd_b": ["q_proj", "v_proj"], "nblocks": 2},
        {"target_modules_bd_a": ["q_proj", "v_proj"], "nblocks": 3},
        {"target_modules_bd_b": ["q_proj", "v_proj"], "nblocks": 3},
        {"target_modules_bd_b": ["q_proj", "v_proj"], "nblocks": 4},
        {"target_modules_bd_b": ["q_proj", "v_proj"], "nblocks": 0},
        {"target_modules_bd_b": ["q_proj", "v_proj"], "nblocks": -1},
        {"target_modules_bd_b": ["q_proj", "v_proj"], "nblocks": 2.0},
        {"target_modules_bd_b": ["q_proj", "v_proj"], "nblocks": "2"},
        {"target_modules_bd_b": ["q_proj", "v_proj"], "nblocks": True},
        {"target_modules_bd_b": "proj"},
        {"target_modules_bd_b": [3]},
        {"target_modules_bd_a": 3},
        {"match_strict": False},
    ),
    "kasa_config": ({"beta": -1}, {"beta": 0.1}, {"gamma": -1}, {"beta": "x"}, {"beta": None}),
    "velora_config": (
        {"num_groups": 2},
        {"num_groups": 0},
        {"num_groups": 5},
        {"num_groups": "2"},
        {"num_groups": 2, "scale": 0},
        {"num_groups": 2, "init_type": "x"},
        {"num_groups": 2, "init_type": "random"},
        {"num_groups": 2.0},
    ),
    "monteclora_config": (
        {"num_samples": 2},
        {"num_samples": 0},
        {"dirichlet_prior": 0},
        {"buffer_size": 0},
        {"num_samples": "2"},
        {"num_samples": 2.0},
    ),
    "eva_config": ({"rho": 0.5}, {"rho": 2.0}, {"tau": 2}, {"tau": "x"}, {"rho": None}),
    "arrow_config": ({"top_k": 0}, {"top_k": 2}, {"router_temperature": 0}, {"top_k": "x"}),
    "corda_config": ({"corda_method": "kpm"}, {"corda_method": "x"}),
    "lora_ga_config": ({"direction": "ArBr"}, {"direction": "x"}),
    "loftq_config": ({"loftq_bits": 4, "loftq_iter": 1},),
    "megatron_core": ("megatron.core", "os"),
    "alora_invocation_tokens": ([1, 2], [100_000]),
    "qalora_group_size": (16, 4),
    "lora_dropout": (0.1, 1.0, 1, 1.01, -0.1, "0", [0.1]),
    "r": (4, 8, 16, 100, 4.0, "4", 10**6),
    "lora_alpha": (-8, 8.5, "8", 10**30, 1e-30),
    "peft_version": ("0.21.2", "0.99.0", "x", 9),
    "runtime_config": ({"ephemeral_gpu_offload": False}, {"ephemeral_gpu_offload": True}),
}

# Several fields at once, or a value on the base model where it matters.
TOGETHER: Sequence[tuple[str, Raw]] = (
    *(
        ("llama", {"target_modules": ".*q_proj", name: value})
        for name in ("layers_pattern", "layers_to_transform")
        for value in ([], "", None, "layers", [0])
    ),
    ("llama", {"layers_pattern": "layers", "layers_to_transform": []}),
    ("llama", {"layers_pattern": "layers", "layers_to_transform": [0]}),
    ("llama", {"layers_pattern": ["layers"], "layers_to_transform": 1}),
    ("llama", {"layers_pattern": [], "layers_to_transform": [0]}),
    ("llama", {"layers_pattern": "h", "layers_to_transform": [0]}),
    ("llama", {"layers_to_transform": [0], "target_modules": ["v_proj", "model.layers.1.self_attn.q_proj"]}),
    *(
        ("llama", {"lora_bias": True, "init_lora_weights": init})
        for init in ("gaussian", "olora", None, False, 1, 0, 2)
    ),
    *(
        ("llama", {first: value, **other})
        for first, value in {
            "use_dora": True,
            "alora_invocation_tokens": [1],
            "arrow_config": {"top_k": 1},
            "kasa_config": {},
            "velora_config": {"num_groups": 2},
            "monteclora_config": {"num_samples": 2},
            "use_bdlora": {"target_modules_bd_b": ["q_proj", "v_proj"], "nblocks": 2},
            "init_lora_weights": "mica",
        }.items()
        for other in (
            {"use_dora": True},
            {"alora_invocation_tokens": [1]},
            {"lora_bias": True},
            {"megatron_config": {"x": 1}},
            {"use_qalora": True},
            {"kasa_config": {"beta": 0.1}},
            {"target_modules": ["q_proj", "embed_tokens"]},
            {"fan_in_fan_out": True},
            {"use_rslora": True},
        )
    ),
    ("llama", {"target_modules": ["q_proj", "embed_tokens"], "lora_bias": True}),
    ("llama", {"target_modules": ["embed_tokens"]}),
    ("llama", {"target_modules": ["embed_tokens", "lm_head"]}),
    ("llama", {"target_modules": ["lm_head"], "modules_to_save": ["lm_head"]}),
    ("llama", {"target_modules": ["embed_tokens"], "trainable_token_indices": [1]}),
    ("llama", {"modules_to_save": ["embed_tokens"], "trainable_token_indices": [1]}),
    ("llama", {"target_modules": ["q_proj", "lm_head"], "init_lora_weights": "pissa"}),
    *(("llama", {"init_lora_weights": "orthogonal", "r": rank, "lora_alpha": 8}) for rank in (1, 2, 3, 4)),
    ("llama", {"init_lora_weights": "orthogonal", "rank_pattern": {"q_proj": 3}}),
    ("llama", {"init_lora_weights": "orthogonal", "target_modules": ["embed_tokens"]}),
    *(("llama", {"init_lora_weights": init, "r": 40}) for init in ("mica", "pissa", "olora", "orthogonal")),
    ("llama", {"kasa_config": {}, "r": 16}),
    ("llama", {"kasa_config": {}, "r": 40}),
    ("llama", {"loftq_config": {"loftq_bits": 4, "loftq_iter": 1}, "init_lora_weights": "loftq"}),
    ("llama", {"loftq_config": {"loftq_bits": 4}, "init_lora_weights": "loftq"}),
    ("llama", {"use_qalora": True, "qalora_group_size": 16}),
    ("llama", {"use_qalora": True, "qalora_group_size": 5}),
    ("llama", {"use_qalora": True, "qalora_group_size": 0}),
    ("llama", {"megatron_config": {"x": 1}, "megatron_core": "os"}),
    ("llama", {"megatron_config": {"x": 1}, "megatron_core": None}),
    ("llama", {"arrow_config": {"top_k": 1}, "target_modules": ["lm_head"]}),
    *(("llama", {"target_modules": "all-linear", "task_type": task}) for task in ("CAUSAL_LM", "SEQ_CLS", "TOKEN_CLS")),
    *(
        ("llama", {"task_type": task, "modules_to_save": saved})
        for task in ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION")
        for saved in (None, [], ["score"], ["qa_outputs"], ["norm"])
    ),
    ("llama", {"trainable_token_indices": [0], "task_type": "CAUSAL_LM"}),
    ("llama", {"ensure_weight_tying": True, "modules_to_save": ["embed_tokens"]}),
    ("llama-tied", {"ensure_weight_tying": True, "modules_to_save": ["embed_tokens"]}),
    ("llama-tied", {"modules_to_save": ["embed_tokens"]}),
    ("llama-tied", {"modules_to_save": ["lm_head"]}),
    ("llama-tied", {"modules_to_save": ["lm_head", "embed_tokens"]}),
    ("llama-tied", {"trainable_token_indices": [1]}),
    ("llama-tied", {"trainable_token_indices": {"lm_head": [1]}}),
    ("llama-tied", {"trainable_token_indices": {"embed_tokens": [1]}, "ensure_weight_tying": True}),
    ("llama-tied", {"target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": True}),
    ("llama-tied", {"target_modules": ["lm_head"]}),
    *(("mamba", {"target_modules": names}) for names in (["out_proj"], ["conv1d"], ["in_proj", "out_proj"], None)),
    ("mamba", {"target_modules": "all-linear"}),
    ("mamba", {"target_modules": ".*in_proj"}),
    ("mamba", {"target_modules": ["x_proj", "dt_proj", "embeddings"]}),
    *(
        ("nemotron_h", {"target_modules": names})
        for names in (["out_proj"], ["conv1d"], ["q_proj", "out_proj"], "all-linear", ["up_proj", "down_proj"])
    ),
    ("nemotron_h", {"target_modules": "all-linear", "exclude_modules": ["out_proj"]}),
    *(("lfm2", {"r": rank, "lora_alpha": 8}) for rank in (8, 32, 48, 64)),
    ("lfm2", {"rank_pattern": {"conv": 8}}),
    *(
        ("lfm2", {name: value})
        for name, value in {
            "use_dora": True,
            "velora_config": {"num_groups": 2},
            "kasa_config": {},
            "monteclora_config": {"num_samples": 2},
            "alora_invocation_tokens": [1],
            "lora_bias": True,
            "init_lora_weights": "pissa",
            "use_bdlora": {"target_modules_bd_b": ["conv"], "nblocks": 2},
            "arrow_config": {"top_k": 1},
            "lora_dropout": 0.1,
            "target_modules": ["in_proj"],
            "fan_in_fan_out": True,
            "use_qalora": True,
        }.items()
    ),
    *(("lfm2", {"init_lora_weights": init}) for init in ("orthogonal", "mica", "olora", "eva", "lora_ga", "gaussian")),
    *(
        ("qwen3_moe", {name: value})
        for name, value in {
            "lora_dropout": 0.1,
            "fan_in_fan_out": True,
            "lora_bias": True,
            "use_dora": True,
            "velora_config": {"num_groups": 2},
            "kasa_config": {},
            "monteclora_config": {"num_samples": 2},
            "alora_invocation_tokens": [1],
            "use_bdlora": {"target_modules_bd_b": ["experts"], "nblocks": 2},
            "arrow_config": {"top_k": 1},
            "use_rslora": True,
            "target_modules": ["q_proj"],
            "target_modules_null": None,
        }.items()
        if name != "target_modules_null"
    ),
    *(
        ("qwen3_moe", {"target_parameters": names})
        for names in (
            ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
            ["gate_up_proj"],
            ["experts.down_proj"],
            ["mlp.gate.weight"],
            ["self_attn.q_proj.weight"],
            ["norm.weight"],
            ["nothing"],
            [],
            "gate_up_proj",
        )
    ),
    *(
        ("qwen3_moe", {"init_lora_weights": init})
        for init in ("orthogonal", "mica", "olora", "pissa", "eva", "lora_ga", "gaussian", "kaiming", False)
    ),
    ("qwen3_moe", {"target_modules": ["q_proj"], "target_parameters": ["self_attn.q_proj.weight"]}),
    ("qwen3_moe", {"target_modules": ["gate"]}),
    ("qwen3_moe", {"target_modules": ["experts"]}),
    ("qwen3_moe", {"target_modules": "all-linear"}),
    ("qwen3_moe", {"rank_pattern": {"experts": 2}}),
    ("qwen3_moe", {"rank_pattern": {"mlp.experts.gate_up_proj": 2}}),
    ("qwen3_moe", {"modules_to_save": ["mlp"]}),
    ("qwen3_moe", {"modules_to_save": ["experts"]}),
    *(
        ("gpt2", {name: value})
        for name, value in {
            "fan_in_fan_out": False,
            "kasa_config": {},
            "use_dora": True,
            "velora_config": {"num_groups": 2},
            "lora_bias": True,
            "use_bdlora": {"target_modules_bd_b": ["c_attn"], "nblocks": 2},
            "target_modules": ["c_attn", "lm_head"],
            "arrow_config": {"top_k": 1},
            "monteclora_config": {"num_samples": 2},
            "alora_invocation_tokens": [1],
        }.items()
    ),
    *(("gpt2", {"init_lora_weights": init}) for init in ("orthogonal", "mica", "olora", "pissa", "eva")),
    ("gpt2", {"kasa_config": {}, "target_modules": ["lm_head"]}),
    ("gpt2", {"kasa_config": {}, "target_modules": ["lm_head"], "fan_in_fan_out": False}),
    ("gpt2", {"target_modules": None}),
    ("gpt2", {"layer_replication": [[0, 2]]}),
    *(
        ("whisper", {name: value})
        for name, value in {
            "use_dora": True,
            "velora_config": {"num_groups": 2},
            "kasa_config": {},
            "monteclora_config": {"num_samples": 2},
            "lora_bias": True,
            "use_bdlora": {"target_modules_bd_b": ["conv"], "nblocks": 2},
            "lora_dropout": 0.1,
            "fan_in_fan_out": True,
            "use_rslora": True,
            "r": 7,
            "rank_pattern": {"conv1": 3},
            "layers_to_transform": [0],
            "modules_to_save": ["conv2"],
            "trainable_token_indices": {"embed_tokens": [1]},
            "target_modules": "all-linear",
            "exclude_modules": ["conv1"],
            "task_type": "FEATURE_EXTRACTION",
            "layer_replication": [[0, 1]],
        }.items()
    ),
    *(
        ("whisper", {"init_lora_weights": init})
        for init in (
            "orthogonal",
            "mica",
            "olora",
            "pissa",
            "eva",
            "lora_ga",
            "gaussian",
            "GAUSSIAN",
            "kaiming",
            False,
            "",
        )
    ),
    *(
        ("bert", {"task_type": task, "target_modules": names})
        for task in (None, "SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION")
        for names in (["query"], "all-linear", None, ["classifier"], ["query", "classifier"], ["qa_outputs", "query"])
    ),
    *(
        ("bert", {"task_type": "SEQ_CLS", "modules_to_save": names})
        for names in (["pooler"], ["classifier"], ["dense"])
    ),
    *(("bert", {"layer_replication": pairs}) for pairs in ([[0, 2]], [[0, 2], [1, 2]], [[0, 3]], [[1, 2]])),
    ("bert", {"target_modules": ["word_embeddings"]}),
    ("bert", {"target_modules": ["embeddings"]}),
    ("bert", {"trainable_token_indices": [1]}),
    ("bert", {"trainable_token_indices": {"embeddings": [1]}}),
    ("bert", {"bias": "all"}),
    ("bert", {"bias": "lora_only", "use_dora": True}),
    *(
        ("llama", {"target_modules": names, "init_lora_weights": init})
        for names in (["embed_tokens"], ["embed_tokens", "q_proj"], ["lm_head"])
        for init in ("kaiming", "pissa", "olora", "eva", "gaussian", "mica", "MiCA", "orthogonal")
    ),
    *(
        ("llama", {"modules_to_save": [name]})
        for name in ("lora_A", "dropout", "A", "t", "base_layer", "q_proj", "v_proj.weight", "act_fn", "rotary_emb")
    ),
    *(("llama", {"target_modules": [name]}) for name in ("act_fn", "rotary_emb", "input_layernorm", "self_attn")),
    *(("llama", {"r": 4, "rank_pattern": {"q_proj": rank}}) for rank in (1, 33, 64)),
    *(
        ("llama", {"use_rslora": True, "init_lora_weights": init, "rank_pattern": {"q_proj": 2}})
        for init in ("pissa", "olora")
    ),
)

_UNMATCHED = "a value that PEFT cannot use is refused though its key matches no module"
_INVOKED = "an activated adapter acts only behind its tokens, which the prompt here does not hold"
_COPIES = "PEFT writes the copies of a tied weight alike; the noise here differs"

# The case's name -> why the disagreement stands.
ALLOWED: Mapping[str, str] = {
    'llama {"lora_alpha": 1e-30}': "an alpha so small is lost in rounding, and is a number like another",
    'llama {"modules_to_save": "x"}': "PEFT takes each letter of a string for a module's name",
    **{
        f'llama {{"rank_pattern": {value}}}': _UNMATCHED
        for value in ('{"x": null}', '{"zzz": null}', '{"zzz": "x"}', '{"zzz": 0}')
    },
    **{f'llama {{"alpha_pattern": {value}}}': _UNMATCHED for value in ('{"x": null}', '{"zzz": null}', '{"zzz": "x"}')},
    **{f'llama {{"alora_invocation_tokens": {value}}}': _INVOKED for value in ("[0]", "[1, 2]", "[100000]")},
    'llama {"target_modules": ["embed_tokens"], "init_lora_weights": "kaiming"}': "an embedding alone takes any name",
    'llama {"modules_to_save": ["base_layer"]}': "PEFT saves what LoRA has wrapped, which is the base model's own",
    'llama-tied {"ensure_weight_tying": true, "modules_to_save": ["embed_tokens"]}': _COPIES,
    'llama-tied {"target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": true}': _COPIES,
    'bert {"bias": "all"}': _COPIES,
    'gpt2 {"init_lora_weights": "olora"}': "PEFT writes and loads it, and only a prompt raises: a warning",
}


def write_unread(folder: Path, raw: Raw, shapes: Mapping[str, Sequence[int]]) -> None:
    """Write an adapter whose values are all zero, without writing them."""
    header: Raw = {}
    end = 0
    for name, shape in shapes.items():
        begin = end
        size = 4
        for length in shape:
            size *= length
        end += size
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "adapter_config.json").write_text(json.dumps(raw))
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
