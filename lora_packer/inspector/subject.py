"""What is checked: an adapter, the base model it is held against, the target."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

from lora_packer.adapter import Adapter, AdapterSource
from lora_packer.base_model import BaseModel
from lora_packer.inspector.base import Against
from lora_packer.inspector.case import Tensor, parsed
from lora_packer.inspector.foreign import Framework, foreign_framework
from lora_packer.inspector.values import Reader
from lora_packer.targets import Target

Reading = Callable[[BinaryIO], AbstractContextManager[tuple[BinaryIO | Reader, int]]]


def plainly(file: BinaryIO) -> AbstractContextManager[tuple[BinaryIO | Reader, int]]:
    """Read the values from the file itself."""
    return nullcontext((file, 1))


@dataclass(frozen=True)
class Subject:
    """What is checked.

    Attributes:
        source, adapter: where the files are, and what they say.
        target: the place that will load it.
        hosted: the id under which the service hosts the base model.
        against: what it is checked against, or why there is nothing.
        no_values: why the values are not to be read; "" where they are.
        reading: makes of the weights file what its values are read from, and how many buffers to use by turns.
    """

    source: AdapterSource
    adapter: Adapter
    target: Target
    hosted: str | None
    against: Against | str
    no_values: str = ""
    reading: Reading = plainly

    @property
    def base(self) -> BaseModel | str:
        """The base model that decides, or why there is none."""
        return self.against if isinstance(self.against, str) else self.against.base

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """The file's tensors, their names taken apart."""
        return parsed(self.adapter.tensors)

    @cached_property
    def has_too_many(self) -> bool:
        """Whether there are more tensors than the base model could have of any adapter: most are another model's."""
        if isinstance(self.base, str) or (self.adapter.config is not None and self.adapter.config.layer_replication):
            return False
        modules = max(map(len, self.base.dialects.values()))
        return len(self.adapter.tensors) > _TENSORS_OF_A_MODULE * modules + _MORE_TENSORS

    @cached_property
    def framework(self) -> Framework | None:
        """Whose names the tensors have, where they are not PEFT's."""
        return foreign_framework(self.adapter.tensors)


# LoRA's two and the magnitude, those of an embedding, weight and bias of its own; and what no module stands for.
_TENSORS_OF_A_MODULE = 8
_MORE_TENSORS = 10_000


def why_without(subject: Subject, *wanted: str) -> str:
    """Why nothing can be said of what these files hold."""
    said = dict.fromkeys(("unreadable-config", "bad-safetensors"), "could not be read") | {"missing-file": "is missing"}
    defects = [defect for defect in subject.adapter.defects if defect.file in wanted and defect.kind in said]
    return "; ".join(f"{defect.file} {said[defect.kind]}" for defect in defects)
