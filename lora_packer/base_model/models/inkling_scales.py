"""How Inkling's vision tower folds a patch, layer by layer: the scales that its class plans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from typing import NamedTuple

from lora_packer.errors import UnknownArchitecture

# Two costs that differ by less than single precision tells apart.
_TIE = 1e-5
_MAX_LAYERS = 10_000


class Scale(NamedTuple):
    """How much of a patch one position stands for, and the width of that position."""

    frames: int
    side: int
    width: int

    @property
    def pixels(self) -> int:
        """The number of pixels that one position stands for."""
        return self.frames * self.side**2


def _prime_factors(number: int) -> list[int]:
    """The prime factors, largest first."""
    factors, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return sorted([*factors, number] if number > 1 else factors, reverse=True)


def _all_scales(frames: int, side: int, channels: int) -> list[Scale]:
    """The scales from one pixel to the whole patch: first its sides are folded, then its frames."""
    sides = list(accumulate(_prime_factors(side), mul))
    times = list(accumulate(_prime_factors(frames), mul))
    return [
        Scale(1, 1, channels),
        *(Scale(1, length, math.ceil(length**2 * channels / 64) * 64) for length in sides),
        *(Scale(time, side, side**2 * channels * time * 64) for time in times),
    ]


def planned_scales(frames: int, side: int, layers: int, channels: int) -> list[Scale]:
    """Return the scale before each layer and after the last one, as ``plan_out_scales`` in modeling_inkling.py does.

    The scales lie as near as they can to a geometric progression. Raises UnknownArchitecture where two are equally
    near, or where there are more scales than layers: what transformers takes is then a matter of its rounding.
    """
    scales = _all_scales(frames, side, channels)
    if not len(scales) <= layers <= _MAX_LAYERS:
        raise _unplanned()
    ideal = [math.log(side * side * frames * channels) * layer / layers for layer in range(layers + 1)]
    chosen = [_nearest([abs(goal - math.log(scale.pixels)) for scale in scales]) for goal in ideal]
    return [scales[0], *(scales[index] for index in chosen[1:-1]), scales[-1]]


def _nearest(distances: Sequence[float]) -> int:
    """Return the index of the least distance. Raises UnknownArchitecture where there are two."""
    (least, index), *others = sorted((distance, index) for index, distance in enumerate(distances))
    if others and others[0][0] - least < _TIE:
        raise _unplanned()
    return index


def _unplanned() -> UnknownArchitecture:
    return UnknownArchitecture(
        "the layers of the base config's vision tower cannot be planned without transformers.",
        hint="Give the folder or the Hub id of the base checkpoint with --base-config.",
    )
