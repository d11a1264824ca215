"""Inkling's models that see and hear."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from operator import mul
from typing import NamedTuple

from lora_packer.base_model.architecture import TEXT_ONLY, Architecture
from lora_packer.base_model.blocks.composite import Tower, below, composite, fixed, text_only, text_part, with_towers
from lora_packer.base_model.blocks.layers import embedding, layer_norm, linear, norm
from lora_packer.base_model.blocks.towers import scaled_layers
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings
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


def _inkling_visual(s: Settings, hidden: int) -> Named:
    s = s.aliased({"num_hidden_layers": "n_layers"})
    layers = s.size("n_layers")
    scales = planned_scales(s.size("temporal_patch_size"), s.size("patch_size"), layers, s.size("num_channels"))
    for index, (before, after) in enumerate(pairwise(scales)):
        last, path = index == layers - 1, f"encoder_layers.{index}"
        folded = (after.frames // before.frames) * (after.side // before.side) ** 2
        yield linear(f"{path}.projection", hidden if last else after.width, before.width * folded)
        if not last:
            yield norm(f"{path}.layer_norm", after.width)
    yield norm("final_norm", hidden)


def _inkling_beside(s: Settings, text: Settings) -> Named:
    hidden = text.size("hidden_size")
    vision, _ = _VISION_PART.of(s)
    audio, _ = _AUDIO_PART.of(s)
    yield from below("vision_tower", _inkling_visual(vision, hidden))
    tokens = audio.size("n_mel_bins") * audio.size("mel_vocab_size")
    yield embedding("audio_tower.embed_audio_tokens.embed_audio_tokens", tokens, hidden)
    yield norm("audio_tower.norm", hidden)


def _inkling2_visual(s: Settings) -> Named:
    s = s.aliased({"native_patch_size": "patch_size", "adapter_merge_size": "spatial_merge_size"})
    hidden, inner = s.size("hidden_size"), s.optional_size("intermediate_size")
    width, bias = s.size("projection_hidden_dim"), s.flag("projector_bias")
    yield "embeddings.class_embedding", Module("parameter", (hidden,))
    yield "embeddings.cls_position_embedding", Module("parameter", (hidden,))
    yield linear("embeddings.patch_embedding", hidden, s.size("num_channels") * s.size("patch_size") ** 2)
    yield embedding("embeddings.position_embedding", s.size("posemb_grid_size") ** 2, hidden)
    yield from layer_norm("pre_layernorm", hidden)
    yield from scaled_layers(s, inner or int(hidden * s.ratio("mlp_ratio")))
    yield linear("merger.linear_1", width, hidden * s.size("spatial_merge_size") ** 2, bias=bias)
    yield linear("merger.linear_2", s.size("text_hidden_size"), width, bias=bias)


def _inkling2_beside(s: Settings, _text: Settings) -> Named:
    vision, visual = _VISION2_PART.of(s)
    return below("vision_tower", visual(vision))


_VISION_PART = fixed("vision_config", Tower("inkling_vision", lambda _: iter(())))
_AUDIO_PART = fixed(
    "audio_config",
    Tower("inkling_audio", lambda _: iter(())),
    attribute_map={"num_codebooks": "n_mel_bins", "codebook_size": "mel_vocab_size"},
)
_VISION2_PART = fixed("vision_config", Tower("inkling2_vision", _inkling2_visual))
_TEXT2 = text_part("inkling2_text")

ARCHITECTURES: Mapping[str, Architecture] = {
    "inkling_mm_model": composite(with_towers(text_part("inkling_text"), _inkling_beside)),
    "inkling2": composite(with_towers(_TEXT2, _inkling2_beside), {TEXT_ONLY: text_only(_TEXT2)}),
}
