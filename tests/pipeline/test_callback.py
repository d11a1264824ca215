"""Checkpoints that are checked while training runs: the plain function, and the Trainer's callback on a fake Trainer.

``make callback-proof`` has the same on transformers' own Trainer.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import ROOT, TINY, TINY_BASE, tiny_config, tiny_tensors, write_adapter

import lora_packer.callback
from lora_packer import InputError
from lora_packer.callback import check_checkpoint

BROKEN = ROOT / "fixtures" / "broken"
WEIGHTS = "adapter_model.safetensors"


class Config:
    """A model's config, as transformers has it."""

    def to_dict(self) -> dict[str, Any]:
        return json.loads(TINY_BASE.read_text())


class Trainer:
    """What a Trainer's callback sees of it: a folder with a checkpoint, the state, and the switch that stops."""

    def __init__(self, folder: Path, callback: Any, *, first: bool = True) -> None:
        self.args = types.SimpleNamespace(output_dir=str(folder), world_size=1)
        self.state = types.SimpleNamespace(global_step=0, is_world_process_zero=first)
        self.control = types.SimpleNamespace(should_training_stop=False)
        self.model = types.SimpleNamespace(config=Config())
        self.callback = callback

    def save(self, step: int, write: Callable[[Path], object]) -> None:
        self.state.global_step = step
        write(Path(self.args.output_dir) / f"checkpoint-{step}")
        self.callback.on_save(self.args, self.state, self.control, model=self.model)


@pytest.fixture
def check_class(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    fake = types.ModuleType("transformers")
    fake.TrainerCallback = type("TrainerCallback", (), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", fake)
    lora_packer.callback._callback_class.cache_clear()
    yield lora_packer.callback.CheckpointCheck
    lora_packer.callback._callback_class.cache_clear()


def good(folder: Path) -> None:
    shutil.copytree(TINY, folder)


def empty(folder: Path) -> None:
    """As ZeRO-3 leaves it where the shards were not gathered."""
    write_adapter(folder, {name: np.zeros((0,), np.float32) for name in tiny_tensors()})


def half(folder: Path) -> None:
    good(folder)
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def without_weights(folder: Path) -> None:
    good(folder)
    (folder / WEIGHTS).unlink()


def nan(folder: Path) -> None:
    shutil.copytree(BROKEN / "nan", folder)


def foreign(folder: Path) -> None:
    tensors = {f"lora_unet_{name.replace('.', '_')}": value for name, value in tiny_tensors().items()}
    write_adapter(folder, tensors)


def nothing(_: Path) -> None:
    """A save that never came."""


FAILING = [empty, half, without_weights, nan, foreign, nothing]


@pytest.mark.parametrize("write", FAILING)
@pytest.mark.parametrize("on_error", ["warn", "stop"])
def test_a_failed_save_is_told_and_stops_where_asked(
    check_class: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, write: Callable[[Path], object], on_error: str
) -> None:
    trainer = Trainer(tmp_path, check_class(on_error=on_error, target="peft"))
    trainer.save(10, good)
    assert (trainer.control.should_training_stop, caplog.messages) == (False, [])
    trainer.save(20, write)
    assert trainer.control.should_training_stop is (on_error == "stop")
    assert f"'{tmp_path}/checkpoint-20' failed its check: " in caplog.messages[0]
    assert len(caplog.messages) == (2 if on_error == "stop" else 1)
    assert caplog.records[0].name == "lora_packer"


def test_the_model_that_is_trained_is_the_base(check_class: Any, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, check_class(on_error="stop"))
    trainer.save(1, lambda folder: shutil.copytree(BROKEN / "wrong-hidden-size", folder))
    assert trainer.control.should_training_stop


def test_what_an_engine_does_not_take_is_told(
    check_class: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def with_dora(folder: Path) -> None:
        write_adapter(folder, tiny_tensors(), tiny_config(use_dora=True))

    Trainer(tmp_path, check_class(target="vllm")).save(1, with_dora)
    assert "failed its check: LP" in caplog.text


def test_only_the_first_process_checks(check_class: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = Trainer(tmp_path, check_class(on_error="stop"), first=False)
    trainer.save(1, empty)
    assert (trainer.control.should_training_stop, caplog.messages) == (False, [])


def test_the_other_processes_stop_with_the_first(
    check_class: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accelerate, utils = types.ModuleType("accelerate"), types.ModuleType("accelerate.utils")
    utils.broadcast_object_list = lambda _: [False]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "accelerate", accelerate)
    monkeypatch.setitem(sys.modules, "accelerate.utils", utils)
    trainer = Trainer(tmp_path, check_class(on_error="stop"), first=False)
    trainer.args.world_size = 2
    trainer.save(1, empty)
    assert trainer.control.should_training_stop


def test_what_could_not_be_checked_is_told_and_stops_nothing(
    check_class: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = Trainer(tmp_path, check_class(on_error="stop", base_config="org/nowhere"))
    trainer.save(1, good)
    assert not trainer.control.should_training_stop
    assert "could not be checked whole: " in caplog.text


def test_a_bug_ends_no_training(
    check_class: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("lora_packer.inspector.check", broken)
    trainer = Trainer(tmp_path, check_class(on_error="stop"))
    trainer.save(1, good)
    assert not trainer.control.should_training_stop
    assert "was not checked: this is a bug in lora-packer" in caplog.text


def test_a_callback_that_makes_no_sense_is_refused_at_once(check_class: Any) -> None:
    with pytest.raises(InputError, match="on_error is 'halt'"):
        check_class(on_error="halt")


# --- the plain function ----------------------------------------------------------------------------------------------


def test_the_newest_checkpoint_of_an_output_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good(tmp_path / "checkpoint-9")
    good(tmp_path / "checkpoint-100")
    report = check_checkpoint(tmp_path, base_config=TINY_BASE)
    assert (report.ok, report.adapter.source, caplog.messages) == (True, str(tmp_path / "checkpoint-100"), [])


def test_a_checkpoint_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nan(tmp_path / "step")
    with caplog.at_level(logging.WARNING, "lora_packer"):
        report = check_checkpoint(tmp_path / "step", base_config=TINY_BASE, target="peft")
    assert report.status == "failed"
    assert caplog.messages == [
        f"'{tmp_path}/step' failed its check: LP401 not-finite: 1 tensor with NaN or infinite values. "
        "Go back to a checkpoint from before the loss diverged."
    ]


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        check_checkpoint(tmp_path / "nowhere", base_config=TINY_BASE)


def test_transformers_is_imported_only_for_the_callback() -> None:
    code = "import sys, lora_packer.callback as c; c.check_checkpoint; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_transformers_the_callback_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    lora_packer.callback._callback_class.cache_clear()
    with pytest.raises(ImportError, match="CheckpointCheck needs transformers, which cannot be imported"):
        lora_packer.callback.CheckpointCheck  # noqa: B018
    with pytest.raises(AttributeError):
        lora_packer.callback.nothing  # noqa: B018
