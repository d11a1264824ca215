"""What PEFT refuses when it loads an adapter, without torch: one row for each ``raise`` on its way."""

from lora_packer.peft.refusals.config import refused_config
from lora_packer.peft.refusals.modules import refused_modules
from lora_packer.peft.refusals.refusal import Refusal
from lora_packer.peft.refusals.task import refused_class

__all__ = ["Refusal", "refused_class", "refused_config", "refused_modules"]
