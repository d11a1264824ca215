"""What PEFT saves besides LoRA itself: whole modules, trained tokens, resized embeddings, biases.

The rules are those of PEFT 0.21.2 (``peft/utils/other.py``, ``peft/utils/save_and_load.py``,
https://github.com/huggingface/peft/tree/v0.21.2/src/peft).
"""

from __future__ import annotations

from lora_packer.adapter.config import LoraConfig
from lora_packer.adapter.keys import key_name
from lora_packer.base_model import Module, Modules
from lora_packer.peft.expectation import Expectation, parameter_shape, parameters
from lora_packer.peft.targets import output_head

_EMBEDDING_NAMES = ("embed_tokens", "lm_head")
_DELTA = "token_adapter.trainable_tokens_delta"


def expect_saved_modules(result: Expectation, names: tuple[str, ...], modules: Modules) -> None:
    """``modules_to_save``: every parameter of every module whose path ends with the name.

    Without a dot boundary: ``head`` also names ``lm_head`` (peft/utils/other.py::_set_trainable).
    """
    if not names:
        return
    saved: dict[str, bool] = {}

    def is_saved(path: str) -> bool:
        if not path:
            return False
        known = saved.get(path)
        if known is None:
            known = saved[path] = path.endswith(names) or is_saved(path.rpartition(".")[0])
        return known

    for name, owner, part, module in parameters(modules):
        if is_saved(owner):
            result.want(name, "", parameter_shape(part, module))


def tied_saved(config: LoraConfig, modules: Modules, embedding: str | None, *, tied: bool) -> tuple[str, ...]:
    """``ensure_weight_tying``: the paths of the input embedding and the head, which are saved where one of them is.

    PEFT goes by what ``modules_to_save`` calls them, and by two names alone
    (peft/tuners/tuners_utils.py::_check_tied_modules, EMBEDDING_LAYER_NAMES in peft/utils/constants.py).
    """
    named = any(name.rpartition(".")[2] in _EMBEDDING_NAMES for name in config.modules_to_save)
    head = output_head(modules)
    if not (config.ensure_weight_tying and tied and named and embedding and head):
        return ()
    return embedding, head


def first_embedding(modules: Modules) -> str | None:
    """Return the path of the first embedding, or None."""
    return next((path for path, _ in _embeddings(modules)), None)


def _embeddings(modules: Modules) -> list[tuple[str, Module]]:
    return [(path, module) for path, module in modules.items() if module.kind == "embedding"]


def _output_head(modules: Modules) -> tuple[str, Module] | None:
    path = output_head(modules)
    return None if path is None else (path, modules[path])


def expect_tokens(result: Expectation, config: LoraConfig, modules: Modules, embedding: str | None) -> None:
    """Trainable tokens: one row per token id; a tied output head may carry a copy."""
    for name, tokens in config.trainable_token_indices.items():
        if name is None:
            owners = [(embedding, modules[embedding])] if embedding else []
        else:
            # Without a dot boundary: "tokens" also names "embed_tokens" (peft/utils/other.py::_set_trainable).
            owners = [(path, m) for path, m in modules.items() if m.kind != "parameter" and path.endswith(name)]
        for path, module in owners:
            vocab, width = module.weight_shape[0], module.weight_shape[-1]
            result.want(path, _DELTA, (len(tokens), width))
            result.allow_wrapped(modules, path, "token_adapter.base_layer")
            outside = [token for token in tokens if token >= vocab]
            if outside:
                result.bad_tokens[path] = outside
            head = _output_head(modules)
            if head and head[0] != path:
                result.allow(head[0], _DELTA, (len(tokens), width))
                result.allow_wrapped(modules, head[0], "token_adapter.base_layer")


def wrap_saved_tokens(result: Expectation, modules: Modules, embedding: str | None, *, tied: bool) -> None:
    """What is saved whole and has trained tokens too: it is saved from inside their wrapper, and so it is read.

    A tied output head gets the wrapper with the input embedding, unless that is saved whole itself: what is saved is no
    longer tied (peft/utils/other.py::set_additional_trainable_modules).
    """
    saved = {want.path: want.shape for want in result.required.values() if not want.part}
    if not saved:
        return
    holders = {want.path for want in result.required.values() if want.part == _DELTA}
    head = output_head(modules)
    if tied and head and embedding in holders and f"{embedding}.weight" not in saved:
        holders.add(head)
    for name, shape in saved.items():
        owner, _, part = name.rpartition(".")
        if owner in holders:
            result.saved_with_tokens.append(owner)
            wrapped = key_name(f"{owner}.token_adapter.base_layer.{part}", "")
            result.optional.pop(wrapped, None)
            del result.required[key_name(name, "")]
            result.want(f"{owner}.token_adapter.base_layer.{part}", "", shape)
            result.allow(name, "", shape)


def allow_embeddings(result: Expectation, config: LoraConfig, modules: Modules) -> None:
    """Copies of the base's own embeddings that PEFT saves beside LoRA on them, or for tied weights."""
    head = _output_head(modules)
    pairs = _embeddings(modules) + ([head] if head else [])
    for path, _ in pairs:
        if path in result.targeted:
            result.allow_wrapped(modules, path, "base_layer")
    if not config.ensure_weight_tying or head is None:
        return
    for path, module in pairs:
        vocab, width = module.weight_shape
        rank = next((result.targeted[other][0] for other, _ in pairs if other in result.targeted), config.r)
        a_part, b_part = (
            ("lora_A.weight", "lora_B.weight") if path == head[0] else ("lora_embedding_A", "lora_embedding_B")
        )
        a_shape, b_shape = ((rank, width), (vocab, rank)) if path == head[0] else ((rank, vocab), (width, rank))
        result.allow(path, a_part, a_shape)
        result.allow(path, b_part, b_shape)
        result.allow(path, "base_layer.weight", module.weight_shape)
        result.allow(path, "weight", module.weight_shape)


def allow_biases(result: Expectation, config: LoraConfig, modules: Modules) -> None:
    """``bias``: "all" saves every bias of the model, "lora_only" those of the adapted modules (PEFT 0.21 and newer).

    PEFT before 0.21 takes any parameter with "bias" in its name for one (peft/utils/save_and_load.py).
    """
    if config.bias == "all":
        result.allow_whole(modules, lambda name: "bias" in name)
    elif config.bias == "lora_only":
        targeted = {f"{path}.bias" for path in result.targeted}
        result.allow_whole(modules, targeted.__contains__)
