"""What PEFT 0.21.2 refuses of the task that a config names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lora_packer.base_model.tasks import generates, generating_instead
from lora_packer.peft.refusals.refusal import Refusal
from lora_packer.redact import escape

# PEFT's class of these tasks takes the model's prepare_inputs_for_generation (peft_model.py). In transformers 4.51 each
# model has one (modeling_utils.py:1747), in 4.57 and 5 only a class that generates.
_TAKES_IT: Mapping[str, str] = {"CAUSAL_LM": "peft_model.py:2083", "SEQ_2_SEQ_LM": "peft_model.py:2423"}


def refused_task(task: str | None, base_model_type: str) -> Iterator[Refusal]:
    """Yield that the task generates, and no class of the base model's type does."""
    source = _TAKES_IT.get(task or "")
    if source is None or generates(base_model_type):
        return
    no_class = f"which no class of {escape(base_model_type, 60)} in transformers 5 has"
    message = f"task_type is {task}, for which PEFT takes the model's prepare_inputs_for_generation, {no_class}"
    hint = "Set task_type to null: PEFT then loads it on the class it was trained on."
    yield Refusal("task_type", message, None, task, hint, source)


def refused_class(task: str | None, base_model_type: str, named: str | None) -> Iterator[Refusal]:
    """Yield that the task generates, and the class that the base config names (``named``) does not.

    PEFT wraps the class that it is given: auto classes for the task make another one, which it takes.
    """
    source = _TAKES_IT.get(task or "")
    classes = generating_instead(base_model_type, named) if source is not None else ()
    if source is None or not classes:
        return
    instead = classes[-1] if task == "SEQ_2_SEQ_LM" else classes[0]
    lacks = f"which {escape(named or '', 60)} has not, the class that the base config names"
    message = f"task_type is {task}, for which PEFT takes the model's prepare_inputs_for_generation, {lacks}"
    hint = f"Load it into {instead}, which has it."
    yield Refusal("task_type", message, None, task, hint, source, only_today=True)
