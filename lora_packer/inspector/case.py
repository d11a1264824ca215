"""An adapter's tensors against one reading of a base model: what was expected, what was found, and what differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import NamedTuple

from lora_packer.adapter.config import LoraConfig
from lora_packer.adapter.keys import PAIRED, TensorKey, parse_key
from lora_packer.adapter.safetensors_header import TensorInfo
from lora_packer.base_model import BaseModel, Modules
from lora_packer.finding import Finding
from lora_packer.frozen import frozen
from lora_packer.peft.expected import Era, Expectation, Want


class Tensor(NamedTuple):
    """One tensor of the file: its name, the name taken apart, its dtype and shape."""

    name: str
    key: TensorKey
    info: TensorInfo

    @property
    def module(self) -> str:
        """The path of the module that it is about, without what PEFT wraps around one."""
        path = self.key.path
        while path.endswith(".base_layer"):
            path = path.removesuffix(".base_layer")
        return path

    @property
    def owner(self) -> str:
        """The path of the module that has it: for a parameter of the base model, what holds that."""
        return self.key.path if self.key.part else self.key.path.rpartition(".")[0]


def parsed(tensors: Mapping[str, TensorInfo]) -> tuple[Tensor, ...]:
    """Return the tensors with their names taken apart."""
    return tuple(Tensor(name, parse_key(name), info) for name, info in tensors.items())


def halves(tensors: Iterable[Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return the two halves of each module's update: path -> "A" or "B" -> tensor."""
    found: dict[str, dict[str, Tensor]] = {}
    for tensor in tensors:
        if tensor.key.part in PAIRED:
            found.setdefault(tensor.key.path, {})["A" if "_A" in tensor.key.part else "B"] = tensor
    return found


class Match(NamedTuple):
    """A tensor that was expected: its name in the file, its dtype and shape, and what was wanted."""

    name: str
    info: TensorInfo
    want: Want

    @property
    def fits(self) -> bool:
        """Whether it has the shape that was wanted."""
        return self.info.shape == self.want.shape


@frozen
class Difference:
    """The found tensors, sorted against the expected ones.

    Attributes:
        matched: expected name -> the tensor that has it, or should have had it.
        renamed: how a name has to be changed to be the expected one -> [(name in the file, expected name)].
        missing: the required names without a tensor.
        extra: what nothing expects.
    """

    matched: Mapping[str, Match]
    renamed: Mapping[str, list[tuple[str, str]]]
    missing: tuple[str, ...]
    extra: tuple[Tensor, ...]

    @property
    def distance(self) -> int:
        """How far the file is from what was expected; 0 where every tensor is."""
        wrong = sum(not match.fits for match in self.matched.values())
        return len(self.missing) + len(self.extra) + wrong + sum(map(len, self.renamed.values()))


@frozen
class Case:
    """Everything that a rule may ask of an adapter and the reading of a base model that comes closest to it.

    Attributes:
        config: the adapter's.
        base: the base model, with the head, vocabulary and labels that the file shows.
        dialect: whose module names the file uses.
        era: in which PEFT's layout it is.
        modules: the base model's modules under these names.
        input_embedding, output_head: the paths of these two among them, or None.
        tensors: the file's, by name.
        expectation: the tensors that the config calls for.
        difference: how the file differs from it.
        assumed: what had to be assumed for this reading, as findings.
        sources: where ``tensors`` are what PEFT makes of the file's: the name of each -> the names that it had there.
    """

    config: LoraConfig
    base: BaseModel
    dialect: str
    era: Era
    modules: Modules
    input_embedding: str | None
    output_head: str | None
    tensors: Mapping[str, TensorInfo]
    expectation: Expectation
    difference: Difference
    assumed: tuple[Finding, ...]
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def base_name(self) -> str:
        """What to call the base model in a message."""
        return f"this base model ({self.base.model_type})"

    def want(self, name: str) -> Want:
        """Return what is wanted under a required name."""
        return self.expectation.required[name]
