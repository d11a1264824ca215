"""Where the modelling files of remote code are that ``tools/proof_remote.py`` builds: in packages on PyPI.

They are copies of what the models' own repositories hold, each at one release.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """A folder of a package with a config class and modelling classes of one model type.

    Attributes:
        package: its name and release on PyPI.
        folder: where the files are in it.
        config: the config class, ``file:class``.
        classes: head -> class, ``file:class``.
        digest: of the named files, see ``remote_code.digest``.
        absent: packages that the files import, and that decide no shape.
        without: files of the folder to do without, such as a tokenizer's.
        stand_ins: what matters of their modules: module -> name -> what stands for it.
        arguments: what the classes take besides the config.
        seed: fields that the class does not declare, and that its code reads.
        choices: fields -> values worth trying, besides those of ``proof_values.py``.
        names: what the copy calls a field -> what the repository's own config calls it.
        fits: whether a real config is one of this class.
    """

    package: str
    folder: str
    config: str
    classes: Mapping[str, str]
    digest: str = ""
    absent: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    stand_ins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    seed: Mapping[str, Any] = field(default_factory=dict)
    choices: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    fits: Callable[[Config], bool] = field(default=lambda _: True)


class Model:
    """ModelScope's base class, which keeps a folder's name; and anything that keeps what it is given."""

    def __init__(self, *_args: Any, **_named: Any) -> None: ...


class TorchModel(Model):
    """ModelScope's base class of what torch runs."""


# Rotary positions have no parameters; their class took other arguments once.
_ROTARY = {"transformers.models.llama.modeling_llama": {"LlamaRotaryEmbedding": Model}}
_MODELSCOPE = {name: {"Model": Model, "TorchModel": TorchModel} for name in ("modelscope", "modelscope.models")}
_HABANA = ("habana_frameworks", "optimum", "sentencepiece")
_GLM_PREFIX = {"pre_seq_len": (None, 8), "prefix_projection": (False, True)}
_GLM2 = {
    "multi_query_attention": (False, True),
    "multi_query_group_num": (1, 2),
    "add_qkv_bias": (False, True),
    "rmsnorm": (False, True),
    "post_layer_norm": (False, True),
    "padded_vocab_size": (64, 104),
    **_GLM_PREFIX,
}
_GLM4V = {
    "vision_config": {
        "dropout_prob": 0.0, "hidden_act": "gelu", "in_channels": 3, "num_hidden_layers": 2, "hidden_size": 32,
        "patch_size": 14, "num_heads": 4, "intermediate_size": 48, "layer_norm_eps": 1e-6, "num_positions": 65,
        "image_size": 112, "scaling_factor": 8,
    }
}  # fmt: skip

# What ``config.json`` of the first Qwen has besides what the class declares, and what later configs call its fields.
_EARLY_QWEN = {
    "max_position_embeddings": 64, "seq_length": 64, "params_dtype": "float32", "fp16": False, "bf16": False,
    "attn_pdrop": 0.0, "pos_emb": "rotary", "use_flash_attn": False,
}  # fmt: skip
_QWEN_NAMES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "ffn_hidden_size": "intermediate_size",
    "padded_vocab_size": "vocab_size",
}
_YUAN = {
    "max_position_embeddings": 64, "causal_mask": True, "use_flash_attention": False, "dropout": 0.0, "eod_token": 3,
    "sep_token": 4, "mask_token_id": 5, "reset_attention_mask": True, "use_loss_mask": False,
    "reset_position_ids": True,
}  # fmt: skip

_VL2_TEXT = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "moe_intermediate_size": 24, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "n_routed_experts": 4, "n_shared_experts": 2,
    "moe_layer_freq": 1,
    "first_k_dense_replace": 1, "kv_lora_rank": 16, "q_lora_rank": None, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16,
    "v_head_dim": 16, "topk_method": "greedy", "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2,
    "use_mla": False, "_attn_implementation": "eager",
}  # fmt: skip
_VL2_VISION = {"width": 32, "layers": 2, "heads": 4, "patch_size": 16, "image_size": 64, "mlp_ratio": 4}
_VL2 = {
    "language_config": (
        _VL2_TEXT,
        _VL2_TEXT | {"use_mla": True, "topk_method": "noaux_tc", "n_shared_experts": None},
        _VL2_TEXT | {"use_mla": True, "q_lora_rank": 24, "first_k_dense_replace": 0, "moe_layer_freq": 2},
        _VL2_TEXT | {"n_routed_experts": None, "attention_bias": True, "num_key_value_heads": 4},
    ),
    "vision_config": (_VL2_VISION, _VL2_VISION | {"mlp_ratio": 3.7362, "global_pool": "avg", "layers": 1}),
    "projector_config": (
        {"input_dim": 32, "n_embed": 32},
        {"input_dim": 32, "n_embed": 24, "depth": 3, "mlp_ratio": 2, "downsample_ratio": 3},
        {"input_dim": 32, "n_embed": 24, "projector_type": "mlp_gelu", "depth": 3},
        {"input_dim": 32, "n_embed": 24, "projector_type": "linear"},
    ),
}


class Attributes(dict[str, Any]):
    """A dictionary whose items are attributes, as those of the package attrdict, which no Python imports any more."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]


_ATTRDICT = {"attrdict": {"AttrDict": Attributes}}
_LLAMA = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "model_type": "llama",
}  # fmt: skip
_SIGLIP_LARGE = {
    "image_size": 384,
    "model_name": "siglip_large_patch16_384",
    "select_feature": "same",
    "select_layer": -1,
}
_HIGH_RES = {"image_size": 1024, "model_name": "sam_b_downsample", "select_feature": "same", "select_layer": -1}
_MULTI_MODALITY = {
    "language_config": (_LLAMA, _LLAMA | {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "vision_config": tuple(
        {"cls": "CLIPVisionTower", "params": _SIGLIP_LARGE | change}
        for change in ({}, {"select_layer": -2}, {"model_name": "siglip_so400m_patch14_384", "select_layer": 3})
    ),
    "aligner_config": tuple(
        {"cls": "MlpProjector", "params": {"input_dim": 1024, "n_embed": 32, "projector_type": kind, "depth": depth}}
        for kind, depth in (("mlp_gelu", 2), ("mlp_gelu", 3), ("linear", 1))
    ),
}


def _dotted(name: str) -> Any:
    """What a dotted name stands for."""
    found, *parts = name.split(".")
    value: Any = import_module(found)
    for part in parts:
        found = f"{found}.{part}"
        value = getattr(value, part) if hasattr(value, part) else import_module(found)
    return value


class _Anything(type):
    """A class that everything is an instance of."""

    def __instancecheck__(cls, _: object) -> bool:
        return True


class _SiglipConfig(metaclass=_Anything):
    """SigLIP's config class where a checkpoint's own is asked for: that of siglip-so400m-patch14-384."""

    @classmethod
    def from_pretrained(cls, _name: str) -> Any:
        """The config, whatever the name."""
        return _dotted("transformers.SiglipVisionConfig")(
            hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16, patch_size=14,
            image_size=384,
        )  # fmt: skip


SOURCES: Mapping[str, tuple[Source, ...]] = {
    "time_moe": (
        Source(
            "sktime==1.2.0",
            "sktime/libs/timemoe",
            "timemoe_config:TimeMoeConfig",
            {"causal-lm": "timemoe:TimeMoeForPrediction", "none": "timemoe:TimeMoeModel"},
            digest="d01cc688ed98c9d3",
            absent=("sktime",),
            stand_ins={"sktime.utils.dependencies": {"_safe_import": _dotted}},
            choices={
                "horizon_lengths": ([1], [1, 8, 32]),
                "input_size": (1, 3),
                "num_experts": (1, 4),
                "apply_aux_loss": (True,),
                "num_experts_per_tok": (1, 2),
            },
        ),
    ),
    "mineru2_qwen": (
        Source(
            "mineru==2.1.11",
            "mineru/model/vlm_hf_model",
            "configuration_mineru2:Mineru2QwenConfig",
            {"causal-lm": "modeling_mineru2:Mineru2QwenForCausalLM", "none": "modeling_mineru2:Mineru2QwenModel"},
            digest="c63dbcac46ab3da5",
            without=("image_processing_mineru2",),
            stand_ins={"transformers": {"SiglipVisionConfig": _SiglipConfig}},
            choices={
                "mm_vision_tower": ("google/siglip-so400m-patch14-384",),
                "mm_projector_type": ("mlp2x_gelu", "linear", "mlp3x_gelu"),
                "mm_hidden_size": (1152, 48),
                "mm_patch_merge_type": ("spatial_unpad", "flat"),
            },
        ),
    ),
    "multi_modality": (
        Source(
            "jrx-ai==0.1.4",
            "JRX/janus/models",
            "modeling_vlm:MultiModalityConfig",
            {"causal-lm": "modeling_vlm:MultiModalityCausalLM"},
            digest="6ca560332aae6166",
            absent=("attrdict", "torchvision"),
            without=("processing_vlm", "image_processing_vlm"),
            stand_ins=_ATTRDICT,
            choices=_MULTI_MODALITY
            | {
                "gen_vision_config": ({"cls": "VQ-16", "params": {"image_token_size": 96, "n_embed": 8}},),
                "gen_aligner_config": (
                    {
                        "cls": "MlpProjector",
                        "params": {"depth": 2, "input_dim": 8, "n_embed": 32, "projector_type": "mlp_gelu"},
                    },
                ),
                "gen_head_config": (
                    {"cls": "vision_head", "params": {"image_token_embed": 24, "image_token_size": 96, "n_embed": 32}},
                ),
            },
            fits=lambda config: "gen_vision_config" in config,
        ),
        Source(
            "xinference==1.5.0",
            "xinference/thirdparty/deepseek_vl/models",
            "modeling_vlm:MultiModalityConfig",
            {"causal-lm": "modeling_vlm:MultiModalityCausalLM"},
            digest="82e194a8fb8dfec8",
            absent=("attrdict", "torchvision"),
            without=("processing_vlm", "image_processing_vlm"),
            stand_ins=_ATTRDICT,
            choices=_MULTI_MODALITY
            | {
                "vision_config": (
                    *_MULTI_MODALITY["vision_config"],
                    {"cls": "HybridVisionTower", "params": {"high_res_cfg": _HIGH_RES, "low_res_cfg": _SIGLIP_LARGE}},
                ),
                "aligner_config": (
                    *_MULTI_MODALITY["aligner_config"],
                    {
                        "cls": "MlpProjector",
                        "params": {
                            "input_dim": 1024,
                            "n_embed": 32,
                            "projector_type": "low_high_hybrid_split_mlp_gelu",
                            "depth": 2,
                        },
                    },
                ),
            },
            fits=lambda config: "gen_vision_config" not in config,
        ),
    ),
    "chatglm": (
        Source(
            "colossalai==0.5.0",
            "colossalai/shardformer/modeling/chatglm2_6b",
            "configuration_chatglm:ChatGLMConfig",
            {
                "causal-lm": "modeling_chatglm:ChatGLMForConditionalGeneration",
                "none": "modeling_chatglm:ChatGLMModel",
            },
            digest="ab36f2cee01514b9",
            arguments={"empty_init": False},
            seed={"original_rope": True},
            choices=_GLM2,
            fits=lambda config: "vision_config" not in config and "num_layers" in config,
        ),
        Source(
            "modelscope==1.9.5",
            "modelscope/models/nlp/chatglm",
            "configuration:ChatGLMConfig",
            {"causal-lm": "text_generation:ChatGLMForConditionalGeneration", "none": "text_generation:ChatGLMModel"},
            digest="b3b9bfa14bfa9781",
            absent=("modelscope", "sentencepiece"),
            without=("tokenization",),
            stand_ins=_MODELSCOPE,
            choices={"inner_hidden_size": (64, 96), **_GLM_PREFIX},
            fits=lambda config: "inner_hidden_size" in config,
        ),
        Source(
            "optimum-habana==1.21.2",
            "optimum/habana/transformers/models/glm4v",
            "configuration_chatglm:GLM4VConfig",
            {"causal-lm": "modeling_chatglm:GLM4VForConditionalGeneration"},
            digest="cacc8f9302caae7b",
            absent=_HABANA,
            arguments={"empty_init": False},
            seed={**_GLM4V, "original_rope": True},
            choices=_GLM2,
            fits=lambda config: "vision_config" in config,
        ),
    ),
    "qwen": (
        Source(
            "modelscope==1.9.5",
            "modelscope/models/nlp/qwen",
            "configuration:QWenConfig",
            {"causal-lm": "text_generation:QWenForTextGeneration", "none": "backbone:QWenModel"},
            digest="dc9047d9e5fe88d8",
            absent=("modelscope",),
            without=("tokenization", "qwen_generation_utils"),
            stand_ins=_MODELSCOPE,
            seed=_EARLY_QWEN,
            names=_QWEN_NAMES,
        ),
    ),
    "baichuan": (
        Source(
            "ipex-llm==2.2.0",
            "ipex_llm/transformers/gguf/models/model_implement/baichuan",
            "configuration_baichuan:BaiChuanConfig",
            {"causal-lm": "modeling_baichuan:BaiChuanForCausalLM", "none": "modeling_baichuan:Model"},
            digest="fcc1358e5976c7d4",
            absent=("sentencepiece",),
            fits=lambda config: config["vocab_size"] == 64000,
        ),
        Source(
            "optimum-habana==1.21.2",
            "optimum/habana/transformers/models/baichuan",
            "configuration_baichuan:BaichuanConfig",
            {"causal-lm": "modeling_baichuan:BaichuanForCausalLM", "none": "modeling_baichuan:BaichuanModel"},
            digest="f3577f57ba6cafb6",
            absent=_HABANA,
            without=("generation_utils", "tokenization_baichuan"),
            fits=lambda config: config["vocab_size"] != 64000,
        ),
    ),
    "yuan": (
        Source(
            "ipex-llm==2.2.0",
            "ipex_llm/transformers/gguf/models/model_implement/yuan2",
            "configuration_yuan:YuanConfig",
            {
                "causal-lm": "yuan_hf_model:YuanForCausalLM",
                "sequence-classification": "yuan_hf_model:YuanForSequenceClassification",
                "none": "yuan_hf_model:YuanModel",
            },
            digest="f8b5ff59812532a8",
            stand_ins=_ROTARY,
            seed=_YUAN,
            choices={"use_shareqk": (False, True)},
        ),
    ),
    "minicpm": (
        Source(
            "FlagEmbedding==1.4.2",
            "FlagEmbedding/finetune/reranker/decoder_only/layerwise",
            "configuration_minicpm_reranker:LayerWiseMiniCPMConfig",
            {"none": "modeling_minicpm_reranker:LayerWiseMiniCPMModel"},
            digest="dcba86c08cb50a54",
            absent=("FlagEmbedding",),
            fits=lambda config: not config.get("num_experts"),
        ),
    ),
    "deci": (
        Source(
            "optimum-habana==1.21.2",
            "optimum/habana/transformers/models/decilm",
            "configuration_decilm:DeciLMConfig",
            {"causal-lm": "modeling_decilm:DeciLMForCausalLM", "none": "modeling_decilm:DeciLMModel"},
            digest="e737b19b3a874737",
            absent=_HABANA,
            choices={"num_key_value_heads_per_layer": ([1, 2, 4, 2], [4, 4, 1, 1]), "num_attention_heads": (4, 8)},
        ),
    ),
    "deepseek_vl_v2": (
        Source(
            "xinference==4.1.0",
            "xinference/thirdparty/deepseek_vl2/models",
            "modeling_deepseek_vl_v2:DeepseekVLV2Config",
            {"causal-lm": "modeling_deepseek_vl_v2:DeepseekVLV2ForCausalLM"},
            digest="ffb3d419ef869e77",
            absent=("xformers", "flash_attn", "torchvision", "attrdict"),
            without=("processing_deepseek_vl_v2", "conversation"),
            seed={"tile_tag": "2D"},
            choices=_VL2,
        ),
    ),
}
