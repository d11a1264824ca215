"""The picture of the updates' sizes."""

from __future__ import annotations

from lora_packer.cli.common import Output
from lora_packer.inspector.norms import ModuleStats
from lora_packer.report.heatmap import heatmap


def picture(*items: tuple[str, float | None]) -> list[str]:
    return heatmap([ModuleStats(module, 4, 1.0, norm) for module, norm in items], Output(no_color=True))


def test_experts_of_a_layer_are_one_cell_and_many_layers_share_columns() -> None:
    lines = picture(*[(f"model.layers.{n}.mlp.experts.{e}.up_proj", 1.0) for n in range(250) for e in range(3)])
    assert "layers 0 to 249, 3 to a column" in lines[0]
    assert lines[1].startswith("mlp.experts.up_proj |")
    assert lines[1].count("@") == 84
    assert len(lines) == 3


def test_what_has_no_layer_and_what_was_not_computed() -> None:
    lines = picture(("model.layers.0.q", 2.0), ("model.layers.1.q", None), ("lm_head", 1.0), ("x\x1b[31m", 0.0))
    assert lines[1].split("|")[1] == "@!"
    assert [line.split("|")[2] for line in lines[2:4]] == [" 1", " 0"]
    assert not any("\x1b" in line for line in lines)
    assert picture() == ["no complete pair of lora_A and lora_B: nothing to draw"]
