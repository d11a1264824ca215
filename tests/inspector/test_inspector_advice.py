"""What is advised: where it can be followed, what comes out of it works."""

from __future__ import annotations

import re
import shlex
import zipfile
from pathlib import Path

import pytest
from builders import PREFIX, TINY_BASE, ones, tiny_tensors, write_adapter

import lora_packer
from lora_packer.adapter.source import FolderSource
from lora_packer.finding import Finding


def found(adapter: Path, code: str = "", base: Path | dict[str, object] = TINY_BASE, **more: object) -> list[Finding]:
    report = lora_packer.check(adapter, base_config=base, target="peft", **more)  # type: ignore[arg-type]
    return [item for item in report.findings if item.code.startswith(code)]


def is_fine(adapter: Path) -> bool:
    report = lora_packer.check(adapter, base_config=TINY_BASE, target="peft")
    return report.ok and not report.findings


@pytest.mark.parametrize(
    "folders",
    [("dpo/reference", "dpo/train"), ("out/checkpoint-600", "out/checkpoint-5000"),
     ("out/global_step_90/actor/lora", "out/global_step_100/actor/lora")],
)  # fmt: skip
def test_the_folder_that_the_hint_names_passes(tmp_path: Path, folders: tuple[str, str]) -> None:
    for folder in folders:
        write_adapter(tmp_path / folder)
    outer = tmp_path / folders[0].partition("/")[0]
    hints = {item.hint or "" for item in found(outer, "LP101")}
    (named,) = {re.search("in the folder '([^']+)'", hint)[1] for hint in hints}  # type: ignore[index]
    assert outer / named == tmp_path / folders[1]
    assert is_fine(outer / named)


@pytest.mark.parametrize(
    ("folders", "listed"),
    [
        (["checkpoint-90", "checkpoint-1000", "checkpoint-100", "final"],
         "4 folders, 'final', 'checkpoint-1000', 'checkpoint-100' and 1 more"),
        (["checkpoint-9", "checkpoint-10/adapter"], "2 folders, 'checkpoint-10/adapter', 'checkpoint-9'"),
        (["run1/checkpoint-5", "run2/checkpoint-7"], "2 folders, 'run2/checkpoint-7', 'run1/checkpoint-5'"),
    ],
)  # fmt: skip
def test_of_folders_that_no_name_tells_apart_the_likely_ones_are_named(
    tmp_path: Path, folders: list[str], listed: str
) -> None:
    for folder in folders:
        write_adapter(tmp_path / folder)
    assert {item.hint for item in found(tmp_path, "LP101")} == {f"It is in {listed}: give the one to be served."}


def test_what_the_hint_says_of_an_archive_with_a_top_folder_can_be_followed(tmp_path: Path) -> None:
    write_adapter(tmp_path / "my adapter")
    with zipfile.ZipFile(tmp_path / "nested.zip", "w") as archive:
        for file in (tmp_path / "my adapter").iterdir():
            archive.write(file, f"my adapter/{file.name}")
    hint = found(tmp_path / "nested.zip", "LP101")[0].hint or ""
    command = re.search("`(lora-packer pack .*)`", hint)
    assert command is not None
    with zipfile.ZipFile(tmp_path / "nested.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    folder = tmp_path / "unpacked" / shlex.split(command[1])[2]
    packed = lora_packer.pack(folder, tmp_path / "a.zip", base_config=TINY_BASE)
    assert is_fine(Path(packed.path))


@pytest.mark.parametrize(
    "name",
    ["non_lora_trainables.bin", "non_lora_state_dict.bin", "vit.safetensors", "new_embeddings.safetensors",
     "mm_projector.bin", "new_embeddings.bin", "trainable_params.bin", "embed_tokens.pt", "visual.safetensors"],
)  # fmt: skip
@pytest.mark.parametrize("packed", [False, True])
def test_trained_weights_beside_the_adapter_are_named(tmp_path: Path, name: str, packed: bool) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / name).write_bytes(b"never opened")
    if packed:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for file in folder.iterdir():
                archive.write(file, file.name)
    (finding,) = found(tmp_path / "a.zip" if packed else folder)
    assert (finding.code, finding.severity, finding.file, finding.count) == ("LP107", "warning", name, 1)
    assert name in finding.message
    assert "modules_to_save" in (finding.hint or "")


def test_several_files_of_trained_weights_are_one_finding(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    for name in ("vit.safetensors", "aligner.safetensors"):
        (folder / name).write_bytes(b"never opened")
    (finding,) = found(folder)
    assert finding.count == 2
    assert "aligner.safetensors, vit.safetensors by their names hold" in finding.message


@pytest.mark.parametrize(
    "name",
    ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "tokenizer.model", "README.md",
     "value_head.safetensors", "adapter_model.bin", "model.safetensors", "vitals.bin", "projector.json"],
)  # fmt: skip
def test_what_is_no_trained_weight_of_the_adapter_is_not_named(tmp_path: Path, name: str) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / name).write_bytes(b"x")
    assert found(folder) == []


def test_an_adapter_as_mlx_saves_it_is_one_finding(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", config={"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": {}})
    (folder / "adapter_model.safetensors").rename(folder / "adapters.safetensors")
    (finding,) = found(folder)
    assert (finding.code, finding.expected) == ("LP101", "adapter_model.safetensors")
    assert "MLX" in (finding.hint or "")


@pytest.mark.parametrize("times", [2, 3, 4])
def test_adapters_put_on_one_another_are_one_finding(tmp_path: Path, times: int) -> None:
    """Tensors of adapters with other targets and ranks stand beside those that the config calls for."""
    tensors = {PREFIX * (times - 1) + name: tensor for name, tensor in tiny_tensors().items()}
    more = {PREFIX * times + f"model.layers.{layer}.self_attn.k_proj": layer for layer in range(2)}
    for path in more:
        tensors |= {f"{path}.lora_A.weight": ones(8, 48) * 0.3, f"{path}.lora_B.weight": ones(32, 8) * 0.3}
    (finding,) = found(write_adapter(tmp_path / "a", tensors))
    assert (finding.code, finding.count, finding.fixable) == ("LP311", 12, False)
    assert f"stands {times} times in front" in finding.message
    assert "merge_and_unload" in (finding.hint or "")


@pytest.mark.parametrize(("times", "says"), [(2, "stands twice"), (3, "stands three times"), (4, "stands 4 times")])
def test_one_adapter_whose_names_have_the_prefix_too_often_is_renamed(tmp_path: Path, times: int, says: str) -> None:
    tensors = {PREFIX * (times - 1) + name: tensor for name, tensor in tiny_tensors().items()}
    (finding,) = found(write_adapter(tmp_path / "a", tensors))
    assert (finding.code, finding.count, finding.fixable) == ("LP311", 8, True)
    assert says in finding.message


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("PROMPT_TUNING", "Train a LoRA adapter: this"),
        ("XLORA", "Train a LoRA adapter: this"),
        ("LOHA", "Merge it into"),
    ],
)
def test_only_what_can_be_merged_is_to_be_merged(tmp_path: Path, kind: str, hint: str) -> None:
    (finding,) = found(write_adapter(tmp_path / "a", config={"peft_type": kind, "task_type": "CAUSAL_LM"}))
    assert (finding.code, (finding.hint or "").startswith(hint)) == ("LP201", True)


class _Repo(FolderSource):
    """What a Hub repository looks like to a check: remote, and without paths."""

    remote = True
    holder = "repo"
    name = "hf://org/repo"

    def path(self, name: str) -> None:  # type: ignore[override]
        return None


def test_of_a_repo_no_folder_can_be_given(tmp_path: Path) -> None:
    for step in (90, 100):
        write_adapter(tmp_path / "repo" / f"checkpoint-{step}")
    for finding in found(_Repo(tmp_path / "repo"), "LP101"):  # type: ignore[arg-type]
        assert finding.hint == (
            "It is in the repo's folder 'checkpoint-100', the newest of 2 (make sure that it is the one): upload the files "
            "of that folder to the root of a repo."
        )


def test_an_adapter_folders_below_is_found(tmp_path: Path) -> None:
    for step in (100, 500):
        write_adapter(tmp_path / "outputs" / "run-1" / f"checkpoint-{step}" / "adapter")
    (tmp_path / "outputs" / ".cache" / "run").mkdir(parents=True)
    write_adapter(tmp_path / "outputs" / ".cache" / "run" / "checkpoint-900")
    report = lora_packer.check(tmp_path / "outputs", base_config=TINY_BASE)
    hints = {item.hint for item in report.findings if item.code == "LP101"}
    assert len(hints) == 1
    assert "run-1/checkpoint-500/adapter" in hints.pop()


@pytest.mark.parametrize("halves", [("lora_down", "lora_up"), ("lora.down", "lora.up")])
def test_halves_that_are_called_down_and_up_are_renamed(tmp_path: Path, halves: tuple[str, str]) -> None:
    """Such names alone make no image model of a language model's layers."""
    down, up = halves
    tensors = {name.replace("lora_A", down).replace("lora_B", up): value for name, value in tiny_tensors().items()}
    (finding,) = found(write_adapter(tmp_path / "a", tensors))
    assert finding.code == "LP319"
    assert (finding.hint or "").startswith(f"Name the tensors {PREFIX}<module path>.lora_A.weight and lora_B.weight")
    as_told = {name.replace(down, "lora_A").replace(up, "lora_B"): value for name, value in tensors.items()}
    assert is_fine(write_adapter(tmp_path / "b", as_told))


@pytest.mark.parametrize(
    ("kind", "starts"), [("te", "Name the tensors"), ("unet_down_blocks", "This adapter is for an")]
)
def test_what_fix_gives_its_names_is_no_image_models(tmp_path: Path, kind: str, starts: str) -> None:
    tensors = {}
    for name, value in tiny_tensors().items():
        path, _, part = name.removeprefix(PREFIX).rpartition(".lora_")
        half = "lora_down" if part.startswith("A") else "lora_up"
        tensors[f"lora_{kind}_{path.replace('.', '_')}.{half}.weight"] = value
    (finding,) = found(write_adapter(tmp_path / "a", tensors))
    assert (finding.code, finding.fixable) == ("LP319", kind == "te")
    assert (finding.hint or "").startswith(starts)
