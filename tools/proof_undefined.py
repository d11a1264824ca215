"""The model types that write text or speech and have no definition, each with its reason.

``tools/proof.py`` fails where transformers has another one, so that a new release's types are seen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

GENERATING = (
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
)
_DRAFTS = "it drafts tokens for another model"
_SOUND = "what it writes is sound"
# A check of one asks the base checkpoint's headers or an installed transformers (base_model/fallback.py).
_SPEAKERS = "it has a model inside that tells who speaks, whose definition nobody has written yet"

UNDEFINED: Mapping[str, str] = {
    **dict.fromkeys(("gemma4_assistant", "gemma4_unified_assistant"), _DRAFTS),
    **dict.fromkeys(("dia", "musicgen", "musicgen_melody", "pop2piano", "speecht5", "vibevoice"), _SOUND),
    **dict.fromkeys(("nemo_speechlm",), _SPEAKERS),
}


def unlisted(tables: Mapping[str, Collection[str]], defined: Collection[str]) -> Iterator[str]:
    """Yield what is wrong with the list: ``tables`` are transformers' auto mappings, ``defined`` the types defined."""
    generating = {name for table in GENERATING for name in tables[table]}
    for name in sorted(generating - set(defined) - UNDEFINED.keys()):
        yield f"{name}: transformers generates with it, and it has neither a definition nor a reason in UNDEFINED"
    for name in sorted(UNDEFINED):
        if name in defined:
            yield f"{name}: it has a definition, and a reason in UNDEFINED why not"
        elif name not in generating:
            yield f"{name}: it is in UNDEFINED, and transformers does not generate with it"
