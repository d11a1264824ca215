"""What PEFT 0.21.2 refuses of the tokens, the parameters and the whole modules that a config names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lora_packer.adapter.config import LoraConfig
from lora_packer.base_model import Modules
from lora_packer.peft.expected import named_parameters
from lora_packer.peft.refusals.kernels import owner_of
from lora_packer.peft.refusals.refusal import Refusal
from lora_packer.peft.targets import containers, saved_modules
from lora_packer.redact import escape

_FIELD = "trainable_token_indices"
# T5, BART and their like run this embedding under the names that encoder and decoder have for it.
_NEVER_RUN = "shared"


def refused_tokens(
    config: LoraConfig,
    modules: Modules,
    targeted: Mapping[str, tuple[int, float]],
    saved_with_tokens: Sequence[str],
) -> Iterator[Refusal]:
    """Yield the first module of ``trainable_token_indices`` whose rows PEFT cannot train."""
    for name in config.trainable_token_indices:
        if name is None:
            layers = [path for path, module in modules.items() if module.kind == "embedding"][:1]
            name = layers[0] if layers else ""
            inside: list[str] = []
        else:
            layers = [path for path, module in modules.items() if module.kind != "parameter" and path.endswith(name)]
            inside = [path for path in containers(modules) if path.endswith(name)]
        shown = f"'{escape(name, 60)}'"
        both = name in saved_modules(config)
        wrong = [*inside, *(path for path in layers if modules[path].kind not in ("embedding", "linear"))]
        adapted = [path for path in layers if path in targeted]
        if both:
            message = f"{_FIELD} names {shown}, and modules_to_save names it too: PEFT trains some of its rows, or all"
            line = "utils/other.py:1579"
        elif not layers and not inside:
            message, line = f"{_FIELD} names {shown}, and the base model has no such module", "utils/other.py:1129"
        elif wrong:
            message = f"{_FIELD} names {shown}, and '{escape(wrong[0], 80)}' has no rows of tokens"
            line = "tuners/trainable_tokens/layer.py:140"
        elif adapted:
            message = f"{_FIELD} names {shown}, and '{escape(adapted[0], 80)}' gets LoRA already"
            line = "utils/other.py:360"
        else:
            continue
        yield Refusal(_FIELD, message, None, escape(name, 80), None, line)
        return
    run = [path for path in saved_with_tokens if path.rpartition(".")[2] != _NEVER_RUN]
    if run:
        path = escape(run[0], 80)
        message = f"'{path}' is saved whole and has trained tokens too: PEFT loads both, and cannot run them"
        hint = "Train it again with modules_to_save or trainable_token_indices, not with both."
        yield Refusal(_FIELD, message, None, path, hint, "tuners/trainable_tokens/layer.py:272")


def refused_parameters(
    config: LoraConfig, modules: Modules, targeted: Mapping[str, tuple[int, float]]
) -> Iterator[Refusal]:
    """Yield the first parameter of ``target_parameters`` that PEFT cannot put LoRA on."""
    for name, owner, module in named_parameters(config, modules):
        shown = f"target_parameters names '{escape(name, 80)}'"
        if owner in targeted:
            message, line = f"{shown}, whose module target_modules names too", "tuners/tuners_utils.py:1198"
        elif not owner:
            message, line = f"{shown}, which is the model's own and no module's", "tuners/tuners_utils.py:1189"
        elif len(module.weight_shape) not in (2, 3):
            message = f"{shown}, which has the shape {list(module.weight_shape)}: PEFT takes 2 or 3 dimensions"
            line = "tuners/lora/layer.py:2402"
        else:
            continue
        yield Refusal("target_parameters", message, None, escape(name), None, line)
        return


def refused_saved(config: LoraConfig, modules: Modules, targeted: Mapping[str, tuple[int, float]]) -> Iterator[Refusal]:
    """Yield the first layer that is saved whole and gets LoRA: PEFT takes the name of the one without its dot."""
    names = saved_modules(config)
    owners = (owner_of(path, modules) for path in targeted)
    path = next((path for path in owners if path.endswith(names)), None) if names else None
    if path is not None:
        name = next(name for name in names if path.endswith(name))
        field = "modules_to_save" if name in config.modules_to_save else "task_type"
        why = "modules_to_save names" if field == "modules_to_save" else f"task_type {config.task_type} adds"
        message = f"{why} '{escape(name, 60)}', and '{escape(path, 80)}', which ends so, gets LoRA already"
        hint = "Exclude it with exclude_modules, or take it out of modules_to_save."
        yield Refusal(field, message, None, escape(path), hint, "utils/other.py:360")
