"""The rules: one declaration each, read by the checks, by ``lora-packer rule``, by the README's table and by the tests.

A code never changes its meaning. Groups: 1 files, 2 config, 3 tensors against the base model, 4 values, 5 the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lora_packer.finding import Finding, Severity

Needs = Literal["files", "base", "values"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        code: stable, ``LP`` and three digits.
        name: short, for people.
        severity: of its findings, where a target does not say otherwise.
        summary: what it finds, one line.
        why: what happens to an adapter like that.
        fix: what to do.
        needs: what has to be at hand to check it: the files, the base model's config, or the tensors' values.
        fixable: whether a lossless repair exists.
    """

    code: str
    name: str
    severity: Severity
    summary: str
    why: str
    fix: str
    needs: Needs = "files"
    fixable: bool = False

    def finding(self, message: str, **details: Any) -> Finding:
        """Return a finding of this rule; ``details`` are fields of Finding and override the rule's own."""
        defaults: dict[str, Any] = {"severity": self.severity, "fixable": self.fixable, "hint": self.fix}
        given = {key: value for key, value in details.items() if value is not None}
        return Finding(code=self.code, name=self.name, message=message, **{**defaults, **given})


MISSING_FILE = Rule(
    "LP101",
    "missing-file",
    "error",
    "A required file is not at the root of the adapter.",
    "Every loader looks for adapter_config.json and adapter_model.safetensors at the root, and services refuse "
    "an upload without them.",
    "Give the folder that PEFT's save_pretrained wrote.",
)
UNREADABLE_CONFIG = Rule(
    "LP102",
    "unreadable-config",
    "error",
    "adapter_config.json is not a JSON object.",
    "No loader can read it.",
    "Save the adapter again with save_pretrained.",
)
DOUBTFUL_JSON = Rule(
    "LP103",
    "doubtful-json",
    "error",
    "adapter_config.json holds a key twice, or a number that JSON does not have.",
    "Readers disagree: Python takes the last of two equal keys and accepts NaN, others take the first or refuse.",
    "Write each key once, with a finite number.",
)
BAD_SAFETENSORS = Rule(
    "LP104",
    "bad-safetensors",
    "error",
    "adapter_model.safetensors is damaged, cut off, or another format.",
    "The file cannot be loaded, or different readers would see different tensors in it.",
    "Save the adapter again, or copy the file again.",
)
READERS_DISAGREE = Rule(
    "LP105",
    "readers-disagree",
    "error",
    "The safetensors library reads the file otherwise than this package does.",
    "A file that two readers see differently can serve other weights than those that were checked.",
    "Save the adapter again with a current safetensors.",
    needs="values",
)
NO_TENSORS = Rule(
    "LP106",
    "no-tensors",
    "error",
    "The weights file holds no tensors.",
    "PEFT loads it with a warning and serves the base model. ZeRO-3 training that was saved without gathering "
    "leaves such a file.",
    "Gather the weights before saving, or save from the last checkpoint.",
)
NOT_LORA = Rule(
    "LP201",
    "not-lora",
    "error",
    "The adapter is of another method than LoRA.",
    "Services that host LoRA adapters cannot apply it.",
    "Merge it into the base model, or train a LoRA adapter.",
)
INVALID_FIELD = Rule(
    "LP202",
    "invalid-field",
    "error",
    "A field of adapter_config.json has a value that PEFT cannot use.",
    "PEFT raises at load, or computes NaN.",
    "Correct the field.",
)
UNKNOWN_FIELD = Rule(
    "LP203",
    "unknown-field",
    "warning",
    "adapter_config.json has a field that PEFT does not know.",
    "PEFT 0.14 and newer drop it with a warning; older releases refuse the whole config.",
    "Remove the field, or check that the loader has a PEFT new enough to know it.",
    fixable=True,
)
NO_EFFECT = Rule(
    "LP204",
    "no-effect",
    "error",
    "The config makes the adapter's update zero.",
    "It loads everywhere and serves the base model.",
    "Set lora_alpha to what it was in training.",
)
BASE_CHANGING_INIT = Rule(
    "LP205",
    "base-changing-init",
    "warning",
    "init_lora_weights names a method that changes the base model at load.",
    "PEFT runs pissa and olora again at load and alters the base weights; engines that ignore the field give "
    "other output, and an adapter that was converted to plain LoRA is wrong in PEFT.",
    "Save with path_initial_model_for_weight_conversion, and set init_lora_weights to true.",
)
NO_TARGET = Rule(
    "LP206",
    "no-target",
    "error",
    "target_modules matches no module of the base model.",
    "PEFT refuses to load the adapter.",
    "Check the base model, and target_modules: entries of a list are suffixes, a string is a regular expression.",
    needs="base",
)
UNSUPPORTED_TARGET = Rule(
    "LP207",
    "unsupported-target",
    "error",
    "target_modules matches a module that PEFT cannot adapt.",
    "PEFT raises ValueError at load: only linear, embedding and convolution layers can be adapted.",
    "Name the layers inside it.",
    needs="base",
)
DEFAULTED_FIELD = Rule(
    "LP208",
    "defaulted-field",
    "warning",
    "r or lora_alpha is missing, so the default of 8 applies.",
    "A default that training did not use changes the scale of the update without a word.",
    "Write the value of training into adapter_config.json.",
)
TOKEN_OUT_OF_RANGE = Rule(
    "LP209",
    "token-out-of-range",
    "error",
    "A trainable token id lies outside the base model's vocabulary.",
    "PEFT raises IndexError at load.",
    "Resize the base model's embeddings first, or correct trainable_token_indices.",
    needs="base",
)
UNCONFIRMED_SCALE = Rule(
    "LP210",
    "unconfirmed-scale",
    "info",
    "The update's scale rests on a field that no tensor confirms.",
    "A wrong use_rslora, alpha_pattern or lora_alpha loads everywhere and makes every output wrong.",
    "Compare use_rslora, lora_alpha and alpha_pattern with the training run's.",
)
WRONG_BASE = Rule(
    "LP301",
    "wrong-shape",
    "error",
    "Tensors have shapes that this base model does not call for.",
    "PEFT raises a size mismatch; other engines pad or cut and answer with wrong output. It means another base model.",
    "Give the config of the base model that the adapter was trained on.",
    needs="base",
)
RANK_MISMATCH = Rule(
    "LP302",
    "rank-mismatch",
    "error",
    "The rank in adapter_config.json is not that of the tensors.",
    "PEFT raises a size mismatch at load.",
    "Set r and rank_pattern to the ranks that the tensors have.",
)
TRANSPOSED = Rule(
    "LP303",
    "transposed",
    "error",
    "Tensors are stored transposed.",
    "PEFT raises a size mismatch. Other frameworks save lora_A as (in, r) and lora_B as (r, out).",
    "Transpose them back: lora_A is (r, in), lora_B is (out, r).",
    needs="base",
    fixable=True,
)
SWAPPED = Rule(
    "LP304",
    "swapped-pair",
    "error",
    "lora_A and lora_B stand under each other's name.",
    "PEFT raises a size mismatch.",
    "Exchange the two names.",
    needs="base",
    fixable=True,
)
EMPTY_TENSOR = Rule(
    "LP305",
    "empty-tensor",
    "error",
    "Tensors have no elements.",
    "DeepSpeed ZeRO-3 leaves such placeholders when the weights are saved without gathering them; PEFT raises at load.",
    "Gather the parameters (stage3_gather_16bit_weights_on_model_save) and save again.",
)
HALF_PAIR = Rule(
    "LP306",
    "half-pair",
    "error",
    "A module has only one of lora_A and lora_B.",
    "PEFT loads it with a warning: without lora_B the module is the base model's, without lora_A the output is random.",
    "Save the adapter again; half of it was lost.",
)
MISSING_MODULES = Rule(
    "LP307",
    "missing-modules",
    "error",
    "Modules that the config targets have no tensors.",
    "PEFT loads it with a warning, and those layers act as the base model's.",
    "Save the adapter again, or correct layers_to_transform.",
    needs="base",
)
MISSING_PART = Rule(
    "LP308",
    "missing-part",
    "error",
    "A tensor that the config calls for is missing.",
    "PEFT raises KeyError (modules_to_save, trainable tokens), or applies DoRA with magnitudes of its own.",
    "Save the adapter again, or remove the field that calls for it.",
    needs="base",
)
WIDER_CONFIG = Rule(
    "LP309",
    "wider-config",
    "warning",
    "target_modules names modules for which the file has no tensors at all.",
    "PEFT adds an untrained pair there, which changes nothing, and warns.",
    "Remove the names from target_modules.",
    needs="base",
    fixable=True,
)
UNUSED_PATTERN = Rule(
    "LP310",
    "unused-pattern",
    "warning",
    "A key of rank_pattern or alpha_pattern decides nothing.",
    "PEFT ignores it with a warning: a module may have another scale than in training.",
    "Correct the key, or remove it.",
    needs="base",
)
RENAMED = Rule(
    "LP311",
    "renamed-tensors",
    "error",
    "The tensors' names are not PEFT's: a prefix or a wrapper's segment is off.",
    "PEFT drops every such tensor without an error and serves the base model.",
    "Rename the tensors to base_model.model.<module path>.lora_A.weight.",
    needs="base",
    fixable=True,
)
ADAPTER_NAME_LEFT = Rule(
    "LP312",
    "adapter-name-left",
    "warning",
    "The adapter's name (.default.) was left in the tensors' names.",
    "PEFT before 0.21 drops such tensors without an error; newer releases load them.",
    "Remove the segment from the names.",
    fixable=True,
)
DROPPED_BY_CONFIG = Rule(
    "LP313",
    "dropped-by-config",
    "error",
    "The file has trained tensors for modules that the config does not target.",
    "PEFT drops them without a word, and the adapter acts otherwise than it was trained.",
    "Correct target_modules, exclude_modules or layers_to_transform.",
    needs="base",
)
FLAG_OFF = Rule(
    "LP314",
    "flag-off",
    "error",
    "The file has tensors of a feature that the config has switched off.",
    "PEFT drops them without a word, and the adapter acts otherwise than it was trained.",
    "Set the field that switches the feature on.",
    needs="base",
)
BASE_WEIGHTS = Rule(
    "LP315",
    "base-weights",
    "error",
    "The file has weights of the base model itself.",
    "They overwrite the base model's own weights at load, also for everybody else who uses that base.",
    "Remove them, or name their modules in modules_to_save if they were trained.",
    needs="base",
)
UNKNOWN_TENSOR = Rule(
    "LP316",
    "unknown-tensor",
    "warning",
    "The file has tensors that belong to nothing in the base model.",
    "PEFT ignores them without a word; stricter engines refuse the adapter.",
    "Remove them, or check that the base model is the right one.",
    needs="base",
)
LAYER_OUT_OF_RANGE = Rule(
    "LP317",
    "layer-out-of-range",
    "error",
    "The file has tensors for layers or experts that the base model does not have.",
    "PEFT drops them without a word. It means another base model.",
    "Give the config of the base model that the adapter was trained on.",
    needs="base",
)
RESIZED_VOCABULARY = Rule(
    "LP318",
    "resized-vocabulary",
    "warning",
    "The adapter was trained on a base with another vocabulary size.",
    "It loads only after resize_token_embeddings on the base; a service that hosts the plain base refuses it.",
    "Resize the base model first, or train without resizing.",
    needs="base",
)
FOREIGN_NAMES = Rule(
    "LP319",
    "foreign-names",
    "error",
    "The tensors have the names of another framework.",
    "PEFT drops every such tensor without an error and serves the base model.",
    "Export the adapter in PEFT's format with that framework's own exporter.",
)
SAVED_EMBEDDINGS = Rule(
    "LP320",
    "saved-embeddings",
    "warning",
    "The file has full embeddings that the config does not mention.",
    "They overwrite the base model's own embeddings at load, and many servers refuse them.",
    "Save with save_embedding_layers=False unless they were trained.",
    needs="base",
)
OLDER_NAMES = Rule(
    "LP321",
    "older-names",
    "info",
    "The tensors have the module names of an older transformers, or of the model's text-only class.",
    "That class and that time's transformers load them as they are; others rename most of them, and drop some.",
    "Serve it with an engine that knows these names, or save it again with the class that will be served.",
    needs="base",
)
NOT_FINITE = Rule(
    "LP401",
    "not-finite",
    "error",
    "Tensors hold NaN or infinite values.",
    "Every loader takes them, and every output of the adapter is NaN.",
    "Go back to a checkpoint from before the loss diverged.",
    needs="values",
)
ZERO_UPDATE = Rule(
    "LP402",
    "zero-update",
    "error",
    "The update of every module is zero.",
    "It loads everywhere and serves the base model: the adapter was never trained, or lora_B was not gathered.",
    "Save the adapter after training, with gathered weights.",
    needs="values",
)
DEAD_MODULES = Rule(
    "LP403",
    "dead-modules",
    "warning",
    "The update of some modules is zero.",
    "Those modules act as the base model's.",
    "Check that they were trained.",
    needs="values",
)
SHARDED_VALUES = Rule(
    "LP405",
    "sharded-values",
    "error",
    "Every lora_B has values in one part of its rows only, and zeros in the others.",
    "One FSDP shard of each tensor was saved: the adapter loads, and most of its update is gone.",
    "Gather the full state dict before saving; what is in the other shards is not in this file.",
    needs="values",
)
PADDED_FLOAT32 = Rule(
    "LP406",
    "padded-float32",
    "info",
    "The float32 values are all exactly bfloat16.",
    "The file is twice as large as it has to be: the lower half of every value is zero.",
    "Save it in bfloat16; nothing is lost.",
    needs="values",
    fixable=True,
)
INTEGER_DTYPE = Rule(
    "LP404",
    "integer-dtype",
    "error",
    "LoRA tensors have an integer dtype.",
    "PEFT casts them to floating point as they are, which gives garbage.",
    "Save the adapter in float32, bfloat16 or float16.",
)
OTHER_BASE_NAMED = Rule(
    "LP501",
    "other-base-named",
    "warning",
    "adapter_config.json names another base model than --base-model.",
    "A different base gives different output even where every shape fits.",
    "Make sure that the hosted base is the one the adapter was trained on.",
)
UNSTATED_FEATURE = Rule(
    "LP502",
    "unstated-feature",
    "warning",
    "The adapter uses a feature that the target says nothing about.",
    "Serving engines refuse or ignore some features; the service documents none of them for uploaded adapters.",
    "Test the deployed adapter against a local one, or train without the feature.",
)

RULES: Mapping[str, Rule] = {
    rule.code: rule
    for rule in sorted((r for r in list(globals().values()) if isinstance(r, Rule)), key=lambda r: r.code)
}
