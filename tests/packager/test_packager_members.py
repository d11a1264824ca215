"""What is packed and what is not: the allow-list, its reasons, and every kind of folder that is refused."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from packager_support import adapter

from lora_packer.errors import InputError, PackError
from lora_packer.names import EXTRAS, REQUIRED
from lora_packer.packager import LeftOut
from lora_packer.packager.members import MAX_ENTRIES, select


def names(folder: Path, **options: bool) -> list[str]:
    return [source.name for source in select(folder, **options).sources]


def left_out(folder: Path, **options: bool) -> dict[str, str]:
    return {entry.name: entry.reason for entry in select(folder, **options).left_out}


# --- the allow-list -------------------------------------------------------------------------------------------------


def test_by_default_exactly_the_two_required_files(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", README_md="# card")
    assert names(folder) == list(REQUIRED)
    assert left_out(folder) == {"README.md": "it is optional, and extras were not asked for"}


def test_extras_are_the_known_files_that_are_there_in_order(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    for name in ("tokenizer.json", "vocab.json", "README.md", "chat_template.jinja", "notes.txt"):
        (folder / name).write_text("x")
    expected = [*REQUIRED, "README.md", "chat_template.jinja", "tokenizer.json", "vocab.json"]
    assert names(folder, include_extras=True) == expected
    assert list(left_out(folder, include_extras=True)) == ["notes.txt"]


def test_every_extra_is_packed_when_asked_for_only(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", **dict.fromkeys(EXTRAS, "x"))
    assert names(folder, include_extras=True) == [*REQUIRED, *sorted(EXTRAS)]
    assert left_out(folder, include_extras=True) == {}
    assert list(left_out(folder)) == sorted(EXTRAS)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("adapter_model.bin", "pickle"),
        ("pytorch_model.PT", "pickle"),
        ("model.ckpt", "pickle"),
        ("training_args.bin", "training state"),
        ("optimizer.pt", "training state"),
        ("optimizer.xyz", "training state"),
        ("scheduler.pt", "training state"),
        ("rng_state_0.pth", "training state"),
        ("trainer_state.json", "training state"),
        ("events.out.tfevents.17", "training state"),
        (".env", "secret"),
        (".env.production", "secret"),
        (".netrc", "secret"),
        ("id_ed25519", "secret"),
        ("server.PEM", "secret"),
        ("hf_token.txt", "secret"),
        ("credentials.json", "secret"),
        (".gitattributes", "hidden"),
        (".DS_Store", "hidden"),
        ("modeling.py", "code"),
        ("run.sh", "code"),
        ("kernel.so.1", "code"),
        ("old.zip", "archive"),
        ("old.tar.gz", "archive"),
        ("notes.txt", "no file that loaders"),
        ("adapter_model-00001-of-00002.safetensors", "no file that loaders"),
    ],
)
def test_what_stays_behind_says_why(tmp_path: Path, name: str, reason: str) -> None:
    folder = adapter(tmp_path / "a", **{name: "x"})
    assert names(folder, include_extras=True) == list(REQUIRED)
    assert reason in left_out(folder, include_extras=True)[name]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("checkpoint-100", "training state"), ("wandb", "training state"), (".git", "hidden"), ("images", "a folder")],
)
def test_folders_stay_behind(tmp_path: Path, name: str, reason: str) -> None:
    folder = adapter(tmp_path / "a")
    (folder / name).mkdir()
    (folder / name / "adapter_config.json").write_text("{}")
    assert reason in left_out(folder)[name]


def test_links_and_special_files_that_are_not_wanted_are_only_listed(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    (folder / "link").symlink_to("/nowhere")
    os.mkfifo(folder / "pipe")
    assert left_out(folder) == {"link": "it is a symbolic link", "pipe": "it is no regular file"}


def test_names_are_shown_escaped(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    (folder / "\x1b[31m\n::error::").write_text("x")
    (folder / os.fsdecode(b"\xff")).write_text("x")
    assert set(left_out(folder)) == {"\\x1b[31m\\x0a::error::", "\\udcff"}


def test_the_scan_is_bounded_and_says_so(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    for number in range(MAX_ENTRIES - 2):
        (folder / f"{number}.txt").touch()
    assert len(left_out(folder)) == MAX_ENTRIES - 2
    (folder / "one-more.txt").touch()
    (folder / "two-more.txt").touch()
    found = select(folder).left_out
    assert found[-1] == LeftOut("…", "the folder has more than 1000 entries; the rest was not looked at")
    assert len(found) <= MAX_ENTRIES + 1
    assert names(folder) == list(REQUIRED)


# --- folders that are refused ---------------------------------------------------------------------------------------


def refused(folder: Path, *words: str, **options: bool) -> None:
    with pytest.raises(PackError) as caught:
        select(folder, **options)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("missing", REQUIRED)
def test_a_missing_required_file_is_named(tmp_path: Path, missing: str) -> None:
    folder = adapter(tmp_path / "a")
    (folder / missing).unlink()
    refused(folder, f"has no {missing}.", "save_pretrained")


def test_a_pickled_adapter_is_told_to_convert(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    refused(folder, "has no adapter_model.safetensors", "adapter_model.bin, a pickle", "as safetensors")


def test_an_adapter_one_folder_down_is_pointed_to(tmp_path: Path) -> None:
    adapter(tmp_path / "outer" / "my-adapter")
    refused(tmp_path / "outer", "has no adapter_config.json", "It is in the folder 'my-adapter': give that folder.")
    (tmp_path / "outer" / "my-adapter").rename(tmp_path / "outer" / "checkpoint-9")
    for number in (10, 8):
        adapter(tmp_path / "outer" / f"checkpoint-{number}")
    refused(tmp_path / "outer", "It is in the folder 'checkpoint-10', the newest of 3: give that folder, or another")


def test_a_missing_file_under_another_case_is_told_to_be_renamed(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    (folder / "adapter_config.json").rename(folder / "Adapter_Config.json")
    refused(folder, "Rename Adapter_Config.json to adapter_config.json.")


@pytest.mark.parametrize(
    ("twin", "shown"),
    [
        ("Adapter_Config.json", "Adapter_Config.json"),
        ("ADAPTER_MODEL.SAFETENSORS", "ADAPTER_MODEL.SAFETENSORS"),
        ("adapter_config.jſon", "adapter_config.jſon"),  # long s
        ("adapter＿config.json", "adapter＿config.json"),  # full-width low line
    ],
)
def test_twins_of_a_member_are_refused(tmp_path: Path, twin: str, shown: str) -> None:
    folder = adapter(tmp_path / "a")
    (folder / twin).write_text("{}")
    refused(folder, shown, "letter case or Unicode form")


def test_twins_of_what_is_not_packed_do_not_matter(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", README_md="a")
    (folder / "readme.md").write_text("b")
    assert names(folder) == list(REQUIRED)
    refused(folder, "README.md and readme.md", include_extras=True)


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.safetensors").mkdir()
    refused(folder, "adapter_model.safetensors is a folder, not a regular file.")


def test_a_named_pipe_in_place_of_a_file_is_not_opened(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    (folder / "adapter_config.json").unlink()
    os.mkfifo(folder / "adapter_config.json")
    refused(folder, "adapter_config.json is a named pipe, not a regular file.")


def test_a_socket_in_place_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = adapter(tmp_path / "a")
    (folder / "adapter_config.json").unlink()
    monkeypatch.chdir(folder)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind("adapter_config.json")
        refused(folder, "adapter_config.json is a socket, not a regular file.")


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.write_text("x"), lambda path: path.symlink_to(path)]
)
def test_no_such_folder(tmp_path: Path, make) -> None:
    make(tmp_path / "a")
    with pytest.raises(InputError, match=r"no folder|not a folder") as caught:
        select(tmp_path / "a")
    assert caught.value.hint


# --- symbolic links -------------------------------------------------------------------------------------------------


def linked(folder: Path, target: str | Path, name: str = "adapter_model.safetensors") -> Path:
    """The folder with ``name`` moved away, to a link that leads to ``target``."""
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)
    return folder


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    (folder / "checkpoint-9").mkdir()
    (folder / "adapter_model.safetensors").rename(folder / "checkpoint-9" / "weights.safetensors")
    linked(folder, "checkpoint-9/weights.safetensors")
    weights = select(folder).sources[1]
    assert (weights.name, weights.path) == (
        "adapter_model.safetensors",
        folder / "checkpoint-9" / "weights.safetensors",
    )


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    adapter(tmp_path / "a")
    (tmp_path / "link").symlink_to("a")
    assert names(tmp_path / "link") == list(REQUIRED)


@pytest.mark.parametrize("target", ["/etc/passwd", "../b/adapter_model.safetensors", "/dev/zero"])
def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, target: str) -> None:
    adapter(tmp_path / "b")
    refused(linked(adapter(tmp_path / "a"), target), "symbolic link to /", "no part of the adapter", "Copy the file")


@pytest.mark.parametrize("secret", [".env", ".git/config", "id_rsa"])
def test_a_link_to_a_secret_within_the_folder_is_refused(tmp_path: Path, secret: str) -> None:
    folder = adapter(tmp_path / "a")
    (folder / secret).parent.mkdir(exist_ok=True)
    (folder / secret).write_text("AWS_SECRET_ACCESS_KEY=x")
    linked(folder, secret, "README.md")
    assert names(folder) == list(REQUIRED)
    refused(folder, "README.md is a symbolic link to", include_extras=True)


@pytest.mark.parametrize("target", ["nowhere", "adapter_model.safetensors", "adapter_config.json/x"])
def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path, target: str) -> None:
    refused(linked(adapter(tmp_path / "a"), target), "adapter_model.safetensors is a symbolic link that leads nowhere")


def test_a_link_to_a_pipe_within_the_folder_is_not_opened(tmp_path: Path) -> None:
    folder = linked(adapter(tmp_path / "a"), "pipe")
    os.mkfifo(folder / "pipe")
    refused(folder, "adapter_model.safetensors is a named pipe")


def snapshot(cache: Path) -> Path:
    """A snapshot as huggingface_hub lays it out in its cache: every file a link to a blob of the repository."""
    repository = cache / "models--org--name"
    blobs = adapter(cache / "download").rename(cache / "kept")
    (repository / "blobs").mkdir(parents=True)
    revision = repository / "snapshots" / "0123abcd"
    revision.mkdir(parents=True)
    for number, name in enumerate(REQUIRED):
        (blobs / name).rename(repository / "blobs" / f"{number:040x}")
        (revision / name).symlink_to(f"../../blobs/{number:040x}")
    return revision


def share_blobs(revision: Path, *, marked: bool) -> None:
    """Move the blobs to the store that all repositories of the cache share, and leave links to it."""
    repository = revision.parent.parent
    store = repository.parent / "blobs"
    for blob in list((repository / "blobs").iterdir()):
        (store / "ab").mkdir(parents=True, exist_ok=True)
        blob.rename(store / "ab" / blob.name)
        blob.symlink_to(f"../../blobs/ab/{blob.name}")
    if marked:
        (store / ".huggingface-shared-blobs").write_text("1\n")


def test_a_hugging_face_snapshot_is_followed_to_its_blobs(tmp_path: Path) -> None:
    revision = snapshot(tmp_path)
    sources = select(revision).sources
    assert [source.name for source in sources] == list(REQUIRED)
    assert {source.path.parent for source in sources} == {tmp_path / "models--org--name" / "blobs"}


def test_a_hugging_face_snapshot_is_followed_to_shared_blobs(tmp_path: Path) -> None:
    revision = snapshot(tmp_path)
    share_blobs(revision, marked=True)
    assert {source.path.parent for source in select(revision).sources} == {tmp_path / "blobs" / "ab"}


def test_a_store_without_its_mark_is_not_the_shared_one(tmp_path: Path) -> None:
    revision = snapshot(tmp_path)
    share_blobs(revision, marked=False)
    refused(revision, "adapter_config.json is a symbolic link to", "no part of the adapter")


def test_a_snapshot_link_to_elsewhere_is_refused(tmp_path: Path) -> None:
    revision = linked(snapshot(tmp_path), "/etc/passwd")
    refused(revision, "adapter_model.safetensors is a symbolic link to /etc/passwd")


def test_blobs_beside_a_folder_that_is_no_snapshot_are_elsewhere(tmp_path: Path) -> None:
    revision = snapshot(tmp_path)
    revision.parent.rename(revision.parent.with_name("shots"))
    refused(tmp_path / "models--org--name" / "shots" / "0123abcd", "no part of the adapter")
