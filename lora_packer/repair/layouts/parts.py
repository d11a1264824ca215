"""What the layouts share: why one cannot be converted, and rows of a matrix in another order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lora_packer.base_model import BaseModel
from lora_packer.errors import InputError
from lora_packer.repair.draft import Blob, Computed, Draft

if TYPE_CHECKING:
    from numpy.typing import NDArray


class CannotConvert(Exception):  # noqa: N818 - it becomes a sentence
    """Why an adapter cannot be converted: the middle of a sentence."""


def rows(blob: Blob, order: NDArray[Any], what: str) -> Blob:
    """Return these rows of a matrix, or these numbers of a vector, in this order."""

    def take(array: NDArray[Any]) -> NDArray[Any]:
        taken: NDArray[Any] = array[order]
        return taken

    return Blob(blob.dtype, (len(order), *blob.shape[1:]), Computed((blob,), take, what))


def exact_alpha(rank: int, scale: float) -> float | int:
    """Return the alpha for which alpha / rank is exactly the scale, or the nearest number to it."""
    near = scale * rank
    choices = (near, math.nextafter(near, math.inf), math.nextafter(near, -math.inf))
    alpha = min(choices, key=lambda choice: abs(choice / rank - scale))
    return int(alpha) if alpha == int(alpha) else alpha


def alpha_of_all(draft: Draft) -> float | int:
    """Return the alpha by which, over r, every update is scaled. Raises CannotConvert where that is not one number.

    A layout whose scale is alpha / r knows no rsLoRA, and no rank and alpha of single modules.
    """
    config = draft.settings
    own = next((name for name in ("rank_pattern", "alpha_pattern") if getattr(config, name)), None)
    if own is not None:
        raise CannotConvert(
            f"it has one rank and one alpha for all modules, and the config has {own} (--allow plain-scale may fold it)"
        )
    scale = config.scale(config.r, config.lora_alpha)
    alpha = exact_alpha(config.r, scale)
    if alpha / config.r != scale:
        raise CannotConvert(f"no alpha over the rank of {config.r} is exactly the scale of {scale:.4g}")
    return alpha


def heads_of(base: BaseModel) -> tuple[int, int, int]:
    """Return the base model's query heads, its key heads, and how wide each is. Raises CannotConvert."""
    try:
        return base.attention_heads
    except InputError as error:
        raise CannotConvert(error.message.rstrip(".")) from None


def require_rows(name: str, blob: Blob, count: int) -> None:
    """Raise CannotConvert where a tensor has not as many rows as the base model calls for."""
    if not blob.shape or blob.shape[0] != count:
        found = " x ".join(map(str, blob.shape)) or "no"
        raise CannotConvert(f"'{name[:80]}' has {found} rows, and this base model calls for {count}")
