"""Train a tiny model with transformers' own Trainer, and see the callback catch a save that wrote nothing.

usage: python tools/callback_proof.py    (in the environment of `make proof`; calls itself in two processes, too)
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from lora_packer.callback import CheckpointCheck

STEPS, EVERY, BAD_STEP = 6, 2, 4


class Sentences(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a sentence."""
        self.told.append(record.getMessage())


class Spoiling(Trainer):  # type: ignore[misc]
    """A Trainer one of whose saves goes wrong in a way of its own."""

    spoil: Any = None

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save, and spoil it where its time has come."""
        state = None
        if self.spoil == "empty" and self.state.global_step == BAD_STEP:
            # As ZeRO-3 leaves each parameter where nobody gathered its shards: without elements.
            state = {name: torch.empty(0) for name, _ in self.model.named_parameters() if "lora_" in name}
        if state is not None:
            self.model.save_pretrained(output_dir, state_dict=state)
        else:
            super().save_model(output_dir, _internal_call)
        if self.spoil == "half" and self.state.global_step == BAD_STEP:
            weights = Path(str(output_dir), "adapter_model.safetensors")
            weights.write_bytes(weights.read_bytes()[:-100])


def train(folder: str, spoil: str | None, on_error: str) -> tuple[int, list[str]]:
    """Return at which step the training ended, and what was said."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(LlamaForCausalLM(config), lora)
    rows = [{"input_ids": row, "labels": row} for row in torch.randint(0, 64, (16, 8))]
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=STEPS,
        save_steps=EVERY,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
    )
    log, sentences = logging.getLogger("lora_packer"), Sentences()
    log.addHandler(sentences)
    check = CheckpointCheck(on_error=on_error, target="peft")
    trainer = Spoiling(model=model, args=arguments, train_dataset=rows, callbacks=[check])
    trainer.spoil = spoil
    trainer.train()
    log.removeHandler(sentences)
    return trainer.state.global_step, sentences.told


def train_together() -> bool:
    """Train in two processes, and return whether both stopped at the bad save: one alone would wait for the other."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", __file__, folder]
        done = subprocess.run(
            [sys.executable, *words],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    good = done.returncode == 0 and done.stdout.count(f"ended at step {BAD_STEP}\n") == 2
    print(f"{'ok  ' if good else 'FAIL'} empty saves in two processes: both ended at step {BAD_STEP}")
    if not good:
        print(done.stdout, done.stderr)
    return good


def main() -> int:
    """Run each case, and return whether all went as they should."""
    if "RANK" in os.environ:  # one of the two processes
        print(f"ended at step {train(sys.argv[1], 'empty', 'stop')[0]}", flush=True)
        return 0
    fine = True
    for spoil, on_error, ends, count in (
        (None, "stop", STEPS, 0),
        ("empty", "warn", STEPS, 1),
        ("empty", "stop", BAD_STEP, 2),
        ("half", "stop", BAD_STEP, 2),
    ):
        with tempfile.TemporaryDirectory() as folder:
            step, told = train(folder, spoil, on_error)
        good = step == ends and len(told) == count
        fine = fine and good
        print(f"{'ok  ' if good else 'FAIL'} {spoil or 'good'} saves, on_error={on_error}: ended at step {step}")
        for line in told:
            print(f"       {line}")
    return 0 if train_together() and fine else 1


if __name__ == "__main__":
    sys.exit(main())
