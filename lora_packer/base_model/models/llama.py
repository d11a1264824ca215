"""Llama 1 to 3."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, declared
from lora_packer.base_model.blocks.frames import QUERY_VALUE, TRANSFORMER, framed, plain_decoder

ARCHITECTURES: Architectures = {
    "llama": declared(framed(plain_decoder, answering_prefix=TRANSFORMER), targets=QUERY_VALUE)
}
