"""What is proposed where an adapter's files are not at the root."""

from __future__ import annotations

import pytest

from lora_packer.misplaced import Holder, next_step
from lora_packer.names import CONFIG_NAME, REQUIRED, WEIGHTS_NAME


def both(*folders: str) -> list[str]:
    return [f"{folder}/{name}" for folder in folders for name in REQUIRED]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (both("my-adapter"), "It is in the folder 'my-adapter': give that folder."),
        # by number, not by letter
        (
            both("checkpoint-1000", "checkpoint-500", "checkpoint-600"),
            "It is in the folder 'checkpoint-1000', the newest of 3: give that folder, or another one.",
        ),
        # PEFT's named adapters, as a preference trainer leaves them
        (
            both("reference", "train"),
            "It is in the folder 'train' ('reference' is the copy that training is compared with): give that folder.",
        ),
        (both("ref_model", "policy"), "It is in the folder 'policy' ('ref_model' is the copy"),
        (both("reference", "checkpoint-5", "checkpoint-6"), "It is in the folder 'checkpoint-6', the newest of 2"),
        (
            both("reference"),
            "It is in the folder 'reference', which by its name is the copy that training is compared with: "
            "look for the trained adapter.",
        ),
        (both("refined"), "It is in the folder 'refined': give that folder."),
        (both("a", "b"), "It is in 2 folders, 'a', 'b': give the one to be served."),
        (both("checkpoint-5", "final"), "It is in 2 folders, 'final', 'checkpoint-5': give the one to be served."),
        (both(*"abcde"), "It is in 5 folders, 'a', 'b', 'c' and 2 more: give the one to be served."),
        # what is no adapter's folder
        (both(".ipynb_checkpoints", "__MACOSX/a"), "Give the folder that PEFT's save_pretrained wrote."),
        (
            [f"half/{CONFIG_NAME}", "half/adapter_model.bin"],
            "There is one in the folder 'half', without adapter_model.safetensors: "
            "put the two files of one adapter side by side.",
        ),
        (["Adapter_Config.json"], "There is 'Adapter_Config.json': names are case-sensitive, rename it."),
        ([], "Give the folder that PEFT's save_pretrained wrote."),
    ],
)
def test_the_folder_that_is_meant_is_proposed(files: list[str], says: str) -> None:
    assert next_step(CONFIG_NAME, files, "folder").startswith(says)


@pytest.mark.parametrize(
    ("holder", "files", "says"),
    [
        ("archive", both("my-adapter"), "the archive's folder 'my-adapter': unpack it and run `lora-packer pack my-"),
        ("archive", both("my adapter"), "run `lora-packer pack 'my adapter'`."),
        ("archive", both("checkpoint-9", "checkpoint-10"), "'checkpoint-10', the newest of 2 (make sure that it is the one): unpack it and run"),
        ("archive", both("a", "b"), "'a', 'b': unpack it and run `lora-packer pack` on the one to be served."),
        ("archive", ["ADAPTER_CONFIG.JSON"], "rename it and pack it again."),
        ("archive", [], "Pack the folder that PEFT's save_pretrained wrote."),
        ("repo", both("checkpoint-9", "checkpoint-10"), "the repo's folder 'checkpoint-10', the newest of 2 (make sure that it is the one): upload the "
         "files of that folder to the root of a repo"),
        ("repo", both("a", "b"), "upload the files of one of them to the root of a repo."),
        ("repo", ["ADAPTER_CONFIG.JSON"], "rename it in the repo."),
        ("repo", [], "Upload to the repo's root what PEFT's save_pretrained wrote."),
    ],
)  # fmt: skip
def test_the_words_fit_what_holds_the_files(holder: Holder, files: list[str], says: str) -> None:
    told = next_step(CONFIG_NAME, files, holder)
    assert says in told
    assert "give that folder" not in told


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["adapter_model.bin"], "a pickle, which is never opened here: save the adapter as safetensors"),
        (["model.safetensors"], "a whole model's weights: save the adapter itself"),
        (["model-00001-of-00002.safetensors"], "a whole model's weights"),
        (["adapters.safetensors"], "as MLX names it: export the adapter in PEFT's format"),
    ],
)
def test_weights_under_another_name_are_told_by_what_they_are(files: list[str], says: str) -> None:
    assert says in next_step(WEIGHTS_NAME, files, "folder")
