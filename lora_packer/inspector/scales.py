"""What each update of a file is multiplied with, as far as its config alone tells: without the base model."""

from __future__ import annotations

from lora_packer.adapter.config import LoraConfig
from lora_packer.frozen import frozen
from lora_packer.peft.targets import PatternLookup


@frozen
class Scaled:
    """How the columns of lora_B are divided among experts, and what B x A is multiplied with."""

    scale: float
    experts: int


class Scales:
    """Reads scales out of a config. Raises PatternError where a pattern of it is not evaluated."""

    def __init__(self, config: LoraConfig) -> None:
        self._config = config
        self._rank_of = PatternLookup(config.rank_pattern, config.r)
        self._alpha_of = PatternLookup(config.alpha_pattern, config.lora_alpha)

    def of(self, path: str, columns: int) -> Scaled | str:
        """Return the scale of the module at ``path`` whose lora_A has so many rows, or why it is not known.

        A pair at a module that holds expert parameters is that of one of them, of all experts together
        (peft/tuners/lora/layer.py, ParamWrapper); which one, the name does not say.
        """
        names = self._parameters(path)
        if not names:
            return Scaled(self._config.scale(columns, self._alpha_of(path)), 1) if columns else "its rank is 0"
        ranks, alphas = {self._rank_of(name) for name in names}, {self._alpha_of(name) for name in names}
        if len(ranks) > 1 or len(alphas) > 1:
            return "which expert parameter it belongs to, and so its scale, its name does not say"
        rank = ranks.pop()
        if not columns or columns % rank:
            return "its rank is not that of the config"
        return Scaled(self._config.scale(rank, alphas.pop()), columns // rank)

    def _parameters(self, path: str) -> list[str]:
        """The parameters of target_parameters that lie at this path."""
        while path.endswith(".base_layer"):
            path = path.removesuffix(".base_layer")
        found = []
        for name in self._config.target_parameters or ():
            parent, _, leaf = name.rpartition(".")
            if not parent or path == parent or path.endswith(f".{parent}"):
                found.append(f"{path}.{leaf}")
        return found
