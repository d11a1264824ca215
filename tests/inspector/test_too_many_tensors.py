"""A file with more tensors than its base model could have of any adapter is not compared name by name."""

from __future__ import annotations

import json
from pathlib import Path

from builders import TINY, TINY_BASE

import lora_packer


def with_tensors(folder: Path, count: int) -> Path:
    header = {
        f"base_model.model.x{number}.lora_A.weight": {
            "dtype": "F32", "shape": [1], "data_offsets": [4 * number, 4 * number + 4]
        }
        for number in range(count)
    }  # fmt: skip
    raw = json.dumps(header).encode()
    folder.mkdir()
    (folder / "adapter_config.json").write_bytes((TINY / "adapter_config.json").read_bytes())
    (folder / "adapter_model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(4 * count))
    return folder


def test_more_tensors_than_any_adapter_could_have(tmp_path: Path) -> None:
    report = lora_packer.check(with_tensors(tmp_path / "a", 12_000), base_config=TINY_BASE)
    assert report.status == "failed"
    (found,) = report.findings
    assert (found.code, found.actual) == ("LP316", 12_000)
    assert "are more than llama with its 21 modules can have" in found.message
    assert {"LP301", "LP401", "LP402"} <= {item.code for item in report.unchecked}


def test_fewer_are_compared(tmp_path: Path) -> None:
    report = lora_packer.check(with_tensors(tmp_path / "a", 2_000), base_config=TINY_BASE)
    assert report.status == "failed"
    assert "LP402" in {item.code for item in report.findings}
