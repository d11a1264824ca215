"""The inspector: rules over (adapter, base model, target) -> findings."""

from lora_packer.inspector.check import check
from lora_packer.inspector.report import AdapterSummary, BaseModelSummary, Report
from lora_packer.inspector.rules import RULES, Rule

__all__ = ["RULES", "AdapterSummary", "BaseModelSummary", "Report", "Rule", "check"]
