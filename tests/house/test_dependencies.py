"""What an installation brings along: it must not change what is there for training."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("huggingface_hub", (0, 34)),  # transformers 4.57 and PEFT 0.18 need one before 1.0
        ("safetensors", (0, 4, 3)),  # transformers 4.57
        ("numpy", (1, 26)),
    ],
)
def test_what_a_transformers_4_environment_has_is_left_there(package: str, version: tuple[int, ...]) -> None:
    (found,) = [item for item in PROJECT["dependencies"] if re.match(rf"{package}\b", item)]
    floor = re.fullmatch(rf"{package}>=([\d.]+)", found)
    assert floor, f"{found} has more than a floor"
    assert tuple(map(int, floor[1].split("."))) <= version


def test_no_class_is_taken_from_the_hub_s_own_client_but_what_every_release_has() -> None:
    """Its errors are requests' in 0.x, httpx' in 1.x and httpx2's in 2.x: an answer is read, not its class."""
    taken = set()
    for path in (ROOT / "lora_packer").rglob("*.py"):
        for line in path.read_text().splitlines():
            if found := re.match(r"\s*(?:from|import) huggingface_hub(\S*)(?: import (.*))?", line):
                assert found[1] == "", f"{path.name}: {line.strip()}"
                taken |= set((found[2] or "").replace(" ", "").split(","))
    assert taken == {"constants", "get_token", "hf_hub_download", "try_to_load_from_cache"}
