"""A base model without a definition: transformers itself is asked, on the meta device, where it is installed.

The optional extra ``transformers`` brings it; nothing is downloaded, no weight is made, and no code from a repository
is run. ``tools/proof.py`` compares the definitions with the same reading of a model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from lora_packer.base_model.checkpoint import CheckpointModel
from lora_packer.base_model.module import Module, Modules
from lora_packer.base_model.named_class import head_of
from lora_packer.errors import InconclusiveError
from lora_packer.redact import escape

META = "transformers (installed)"


def is_available() -> bool:
    """Whether transformers and torch are installed; neither is imported to find out."""
    return find_spec("transformers") is not None and find_spec("torch") is not None


def load_meta(config: Mapping[str, Any], source: str | None) -> CheckpointModel:
    """Return the base model as the installed transformers builds it. Raises InconclusiveError."""
    model_type = escape(str(config.get("model_type")), 60)
    installed = "the installed transformers"
    try:
        import torch  # noqa: F401 - whether it can be imported
        import transformers

        installed = f"transformers {transformers.__version__}"
        model = _built(config)
        modules = modules_of(model)
    except Exception as error:  # noqa: BLE001 - a broken installation, or a config that a model's own code refuses
        reason = escape(str(error).strip().partition("\n")[0], 160) or type(error).__name__
        message = f"{installed} cannot build the model type '{model_type}': {reason}"
        raise InconclusiveError(message) from None
    found = modules.get(named := _input_embedding(model))
    # What reads sound or images first, such as a convolution, is called one by some classes.
    embedding = named if found is not None and found.kind == "embedding" else None
    if embedding is None and _reads_tokens(model):
        raise InconclusiveError(f"{installed} does not say which input embedding the model type '{model_type}' has.")
    dialects = MappingProxyType({META: modules})
    return CheckpointModel(model_type, modules, dialects, source, head_of(config), (), embedding, config)


def _built(config: Mapping[str, Any]) -> Any:
    """The class that the config names, without weights; where it names none, the causal language model of its type."""
    import torch
    import transformers

    plain = {key: value for key, value in copy.deepcopy(dict(config)).items() if key != "quantization_config"}
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""
    found = getattr(transformers, name, None) if name.isidentifier() else None
    named = found if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel) else None
    if name and named is None:
        # Another class of the type is another model: a draft model has the type of what it drafts for.
        raise LookupError(f"it has no class '{name}', which the base config names")
    loaded = transformers.AutoConfig.for_model(**plain)
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(loaded) if named is None else named(loaded)


def _reads_tokens(model: Any) -> bool:
    """Whether the model's config, or that of the language model in it, has a vocabulary."""
    config = getattr(model, "config", None)
    parts = (config, getattr(config, "text_config", None))
    return any(getattr(part, "vocab_size", None) is not None for part in parts)


def _input_embedding(model: Any) -> str:
    """The path of the input embedding; "" where the model has none, or its class does not say which one it is."""
    try:
        found = model.get_input_embeddings()
    except Exception:  # noqa: BLE001 - NotImplementedError, and whatever an override of it meets in other configs
        return ""
    return next((path for path, module in model.named_modules() if module is found), "")


def modules_of(model: Any) -> Modules:
    """Return every module of a torch model, and every parameter that is not the weight or bias of one."""
    import torch
    from transformers.pytorch_utils import Conv1D

    found: dict[str, Module] = {}
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            found[path] = Module("linear", tuple(module.weight.shape), module.bias is not None)
        elif isinstance(module, Conv1D):
            found[path] = Module("conv1d", tuple(module.weight.shape), module.bias is not None)
        elif isinstance(module, torch.nn.Embedding):
            found[path] = Module("embedding", tuple(module.weight.shape))
        elif isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Conv3d):
            found[path] = Module("conv", tuple(module.weight.shape), module.bias is not None, groups=module.groups)
        transposed = bool(getattr(module, "is_transposed", False))
        # A class of its own may add to a layer, such as a scale of the logits: modules_to_save saves that too.
        owned = ("weight", "bias") if path in found else ()
        for name, parameter in module.named_parameters(recurse=False):
            if name in owned:
                continue
            shape = tuple(parameter.shape)
            full = f"{path}.{name}" if path else name
            found[full] = Module("parameter", shape, transposed=transposed and len(shape) == 3)
    return MappingProxyType(found)
