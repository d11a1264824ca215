"""``verify``: an archive, a folder or a repo against the receipt of a real release through the sandbox."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import TINY, TINY_BASE, tiny_config, tiny_tensors, write_adapter
from hub_support import hub_of_every_kind, point_to

import lora_packer
from lora_packer.sandbox import LocalHub, Sandbox, Service

Cli = Callable[..., Any]
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(delay=0) as started:
        yield started


@pytest.fixture(scope="module")
def released(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with receipts of releases: of a folder, of a .zip, of a .tar.gz, and with --direct; and both archives."""
    folder = tmp_path_factory.mktemp("released")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in sandbox.environment().items():
            patch.setenv(name, value)
        for suffix in ("zip", "tar.gz"):
            lora_packer.pack(TINY, folder / f"tiny.{suffix}", base_config=str(TINY_BASE))
        sources = {"folder": TINY, "zip": folder / "tiny.zip", "tar": folder / "tiny.tar.gz", "direct": TINY}
        for name, source in sources.items():
            direct = name == "direct"
            lora_packer.release(
                source,
                model_name=f"verify-{name}",
                base_model="tiny/llama",
                base_config=str(TINY_BASE),
                to=None if direct else f"s3://{sandbox.s3.bucket}/verify/",
                direct=direct,
                receipt=folder / f"{name}.json",
            )
    return folder


def verified(cli: Cli, archive: Path | str, receipt: Path | str) -> tuple[int, Any]:
    done = cli("verify", archive, "--receipt", receipt, "--format", "json")
    assert done.err == "", done.err
    return done.code, json.loads(done.out)


def what(said: Any) -> list[str]:
    return [item["what"] for item in said["findings"]]


@pytest.mark.parametrize(
    ("receipt", "archive", "compared"),
    [
        ("folder", "tiny.zip", ["size", "sha256", CONFIG, WEIGHTS]),
        ("zip", "tiny.zip", ["size", "sha256"]),
        ("tar", "tiny.tar.gz", ["size", "sha256"]),
    ],
)
def test_the_archive_that_was_released(
    cli: Cli, released: Path, receipt: str, archive: str, compared: list[str]
) -> None:
    code, said = verified(cli, released / archive, released / f"{receipt}.json")
    assert (code, said["status"], said["findings"], said["compared"]) == (0, "ok", [], compared)
    assert said["schema_version"] == 1
    assert said["receipt"]["model_name"] == f"verify-{receipt}"
    assert lora_packer.verify(released / archive, receipt=released / f"{receipt}.json").ok


def test_text_says_which_release_and_how_it_ends(cli: Cli, released: Path) -> None:
    done = cli("verify", released / "tiny.zip", "--receipt", released / "folder.json", "--verbose")
    assert done.code == 0
    assert "verify-folder on tiny/llama, job " in done.out
    assert f"compared  size, sha256, {CONFIG}, {WEIGHTS}\n" in done.out
    assert done.out.endswith("ok: it is the archive of this receipt\n")
    assert cli("verify", released / "tiny.zip", "--receipt", released / "folder.json", "-q").out == (
        "ok: it is the archive of this receipt\n"
    )


def zipped(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def own_files() -> dict[str, bytes]:
    return {name: (TINY / name).read_bytes() for name in (CONFIG, WEIGHTS)}


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def packed_again(path: Path, released: Path) -> None:
    zipped(path, own_files(), zipfile.ZIP_DEFLATED)


def packed_as_tar(path: Path, released: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in own_files().items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def other_config(path: Path, released: Path) -> None:
    zipped(path, {**own_files(), CONFIG: json.dumps(tiny_config(lora_alpha=3)).encode()})


def other_weights(path: Path, released: Path) -> None:
    files = own_files()
    zipped(path, {**files, WEIGHTS: flipped(files[WEIGHTS], -1 + len(files[WEIGHTS]))})


def other_base(path: Path, released: Path) -> None:
    zipped(path, {**own_files(), CONFIG: json.dumps(tiny_config(base_model_name_or_path="org/mistral-7b")).encode()})


def cut_off(path: Path, released: Path) -> None:
    path.write_bytes((released / "tiny.zip").read_bytes()[:5000])


def one_bit(path: Path, released: Path) -> None:
    """In the middle of the weights: their checksum tells it, and the config is as it was."""
    data = (released / "tiny.zip").read_bytes()
    path.write_bytes(flipped(data, len(data) // 2))


def renamed(path: Path, released: Path) -> None:
    zipped(path, {f"adapter/{name}": data for name, data in own_files().items()})


def one_more(path: Path, released: Path) -> None:
    zipped(path, {**own_files(), "README.md": b"hello"})


def one_less(path: Path, released: Path) -> None:
    zipped(path, {WEIGHTS: own_files()[WEIGHTS]})


def no_archive(path: Path, released: Path) -> None:
    path.write_bytes(b"not an archive at all")


OF_THE_WHOLE = ["size", "sha256"]


@pytest.mark.parametrize(
    ("make", "findings", "note"),
    [
        (packed_again, OF_THE_WHOLE, "Every file inside is the same, byte for byte"),
        (packed_as_tar, ["format", *OF_THE_WHOLE], "Every file inside is the same, byte for byte"),
        (other_config, [*OF_THE_WHOLE, f"{CONFIG}: size", f"{CONFIG}: sha256"], "The weights inside are the same"),
        (other_weights, [*OF_THE_WHOLE, f"{WEIGHTS}: sha256"], "The weights inside are others"),
        (
            other_base,
            [*OF_THE_WHOLE, f"{CONFIG}: size", f"{CONFIG}: sha256", "base model"],
            f"The weights inside are the same, byte for byte; what differs is {CONFIG}.",
        ),
        (cut_off, [*OF_THE_WHOLE, "contents"], "6,422 bytes are missing"),
        (one_bit, ["sha256", WEIGHTS], "The archive is damaged"),
        (
            renamed,
            [*OF_THE_WHOLE, f"{CONFIG}: name", f"{WEIGHTS}: name"],
            "is the same, byte for byte, under another name",
        ),
        (one_more, [*OF_THE_WHOLE, "README.md"], "The weights inside are the same"),
        (one_less, [*OF_THE_WHOLE, CONFIG], "The weights inside are the same"),
        (no_archive, ["format", *OF_THE_WHOLE, "contents"], "The archive is damaged"),
    ],
)
def test_what_differs_is_told_precisely(
    cli: Cli, released: Path, tmp_path: Path, make: Callable[[Path, Path], None], findings: list[str], note: str
) -> None:
    path = tmp_path / "given"
    make(path, released)
    code, said = verified(cli, path, released / "folder.json")
    assert (code, said["status"]) == (1, "failed")
    assert what(said) == findings
    assert note in " ".join(said["notes"])
    for item in said["findings"]:
        assert item["expected"] != item["actual"]
    done = cli("verify", path, "--receipt", released / "folder.json")
    assert done.out.endswith(f"failed: {len(said['findings'])} difference{'s' if len(said['findings']) > 1 else ''}\n")


@pytest.fixture
def store(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the releases of this file lie, with the credentials for it."""
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    return f"s3://{sandbox.s3.bucket}/"


def test_what_lies_at_the_store_is_fetched_and_compared(cli: Cli, released: Path, store: str) -> None:
    written = json.loads((released / "folder.json").read_text())
    uri = store + written["object"]["key"]
    code, said = verified(cli, uri, released / "folder.json")
    assert (code, said["compared"], said["archive"]) == (0, ["size", "sha256", CONFIG, WEIGHTS], uri)
    url = lora_packer.presign(uri, allow_private_endpoint=True).url.reveal()
    done = cli("verify", url, "--receipt", released / "folder.json")
    assert done.code == 0
    assert "Signature" not in done.text
    other = store + json.loads((released / "tar.json").read_text())["object"]["key"]
    code, said = verified(cli, other, released / "folder.json")
    assert (code, what(said)) == (1, ["format", "size", "sha256"])
    done = cli("verify", store + "nothing/there.zip", "--receipt", released / "folder.json")
    assert done.code == 2


def test_an_archive_that_was_released_from_the_store(
    cli: Cli, released: Path, store: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    """It was never read as a whole: the receipt has what its key tells, or nothing but a size."""
    key = json.loads((released / "folder.json").read_text())["object"]["key"]
    receipt = tmp_path / "r.json"
    lora_packer.release(
        store + key, model_name="verify-object", base_model="tiny/llama", base_config=str(TINY_BASE), receipt=receipt
    )
    code, said = verified(cli, released / "tiny.zip", receipt)
    assert (code, said["compared"]) == (0, ["size", "sha256"])
    written = json.loads(receipt.read_text())
    written["object"].update(key="my/own.zip", sha256=None)
    receipt.write_text(json.dumps(written))
    done = cli("verify", released / "tiny.zip", "--receipt", receipt)
    assert done.code == 3
    done = cli("verify", released / "tiny.tar.gz", "--receipt", receipt)
    assert done.code == 1
    written["object"].update(key=key, sha256=None)
    receipt.write_text(json.dumps(written))
    code, said = verified(cli, released / "tiny.zip", receipt)
    assert (code, said["notes"]) == (
        0,
        ["The receipt has only the first digits of the archive's SHA-256, from its key at the store."],
    )
    code, said = verified(cli, released / "tiny.tar.gz", receipt)
    assert (code, what(said)) == (1, ["size", "sha256"])


def test_a_file_of_another_name_is_the_same_archive(cli: Cli, released: Path, tmp_path: Path) -> None:
    for name in ("whatever.bin", "it-is-a-zip.tar.gz"):
        shutil.copy(released / "tiny.zip", tmp_path / name)
        assert verified(cli, tmp_path / name, released / "folder.json")[0] == 0


def test_a_finished_archive_that_is_another(cli: Cli, released: Path, tmp_path: Path) -> None:
    other_base(tmp_path / "other.zip", released)
    code, said = verified(cli, tmp_path / "other.zip", released / "zip.json")
    assert (code, what(said)) == (1, ["size", "sha256", "base model"])
    assert said["findings"][-1]["actual"] == "org/mistral-7b"
    assert said["notes"] == ["A finished archive was released, so the receipt does not record what is inside."]


@pytest.mark.parametrize("given", ["tiny.zip", "tiny.tar.gz", "folder"])
def test_a_direct_release_has_no_archive_and_says_so(cli: Cli, released: Path, given: str) -> None:
    place = TINY if given == "folder" else released / given
    code, said = verified(cli, place, released / "direct.json")
    assert (code, said["findings"], said["compared"]) == (0, [], [CONFIG, WEIGHTS])
    assert said["notes"] == [
        "The receipt records no archive: the files were sent to the service themselves, with --direct. The files alone "
        "were compared."
    ]
    assert cli("verify", place, "--receipt", released / "direct.json").out.endswith(
        "ok: the files are those recorded\n"
    )


def test_a_direct_release_of_other_weights(cli: Cli, released: Path, tmp_path: Path) -> None:
    other_weights(tmp_path / "other.zip", released)
    code, said = verified(cli, tmp_path / "other.zip", released / "direct.json")
    assert (code, what(said)) == (1, [f"{WEIGHTS}: sha256"])


def test_a_damaged_archive_of_a_direct_release(cli: Cli, released: Path, tmp_path: Path) -> None:
    cut_off(tmp_path / "cut.zip", released)
    code, said = verified(cli, tmp_path / "cut.zip", released / "direct.json")
    assert (code, what(said)) == (1, ["contents"])


def test_the_folder_that_was_released_and_one_that_was_trained_on(cli: Cli, released: Path, tmp_path: Path) -> None:
    assert verified(cli, TINY, released / "folder.json")[0] == 0
    tensors = {name: np.ascontiguousarray(tensor * 2) for name, tensor in tiny_tensors().items()}
    code, said = verified(cli, write_adapter(tmp_path / "later", tensors), released / "folder.json")
    assert code == 1
    assert f"{WEIGHTS}: sha256" in what(said)


def test_a_folder_says_nothing_of_a_finished_archive(cli: Cli, released: Path) -> None:
    done = cli("verify", TINY, "--receipt", released / "zip.json")
    assert done.code == 3
    assert "Nothing that the receipt records can be compared with" in done.err


# --- the Hub ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    """A Hub, a service that fetches from it, and the receipt of a release of org/public in the working folder."""
    monkeypatch.chdir(tmp_path)
    with hub_of_every_kind() as started, Service(hub=started, delay=0) as service:
        point_to(started, monkeypatch)
        monkeypatch.setenv("TOGETHER_API_KEY", service.api_key.reveal())
        monkeypatch.setenv("TOGETHER_BASE_URL", service.base_url)
        lora_packer.release("hf://org/public", model_name="mine", base_model="tiny/llama", base_config=str(TINY_BASE))
        yield started


def test_the_repo_that_was_released(cli: Cli, hub: LocalHub, released: Path) -> None:
    code, said = verified(cli, "hf://org/public", "public.mine.receipt.json")
    assert (code, said["compared"]) == (0, ["commit", WEIGHTS])
    assert f"Not compared, for no digest of it is known: {CONFIG}." in said["notes"]
    assert cli("verify", "hf://org/public").code == 0  # the receipt of the default name
    code, said = verified(cli, released / "tiny.tar.gz", "public.mine.receipt.json")
    assert (code, said["compared"]) == (0, [WEIGHTS])
    assert "the service fetched the repo from the Hub itself" in said["notes"][0]


def test_a_repo_that_moved_on(cli: Cli, hub: LocalHub, tmp_path: Path) -> None:
    tensors = {name: np.ascontiguousarray(tensor * 2) for name, tensor in tiny_tensors().items()}
    hub.add("org/public", write_adapter(tmp_path / "later", tensors))
    code, said = verified(cli, "hf://org/public", "public.mine.receipt.json")
    assert (code, what(said)) == (1, ["commit", f"{WEIGHTS}: sha256"])


# --- receipts --------------------------------------------------------------------------------------------------------


def changed(released: Path, path: Path, change: Callable[[Any], object]) -> Path:
    written = json.loads((released / "folder.json").read_text())
    change(written)
    path.write_text(json.dumps(written))
    return path


@pytest.mark.parametrize(
    ("change", "findings"),
    [
        (lambda receipt: receipt["object"].update(sha256="0" * 64), ["object.sha256 in the receipt"]),
        (
            lambda receipt: receipt["adapter"]["sha256"].update({WEIGHTS: "0" * 64}),
            [f"adapter.sha256 of {WEIGHTS} in the receipt"],
        ),
        (lambda receipt: receipt["archive"]["members"][1].update(size=1), [f"{WEIGHTS}: size"]),
    ],
)
def test_a_receipt_that_contradicts_itself(
    cli: Cli, released: Path, tmp_path: Path, change: Callable[[Any], object], findings: list[str]
) -> None:
    code, said = verified(cli, released / "tiny.zip", changed(released, tmp_path / "r.json", change))
    assert (code, what(said)) == (1, findings)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda receipt: receipt["archive"].update(size="11422"), "its archive.size is not a number of bytes"),
        (lambda receipt: receipt["archive"].update(size=True), "its archive.size is not a number of bytes"),
        (lambda receipt: receipt["archive"].update(sha256=None), "its archive.sha256 is not a SHA-256 in hex"),
        (lambda receipt: receipt["archive"].update(sha256="abc"), "its archive.sha256 is not a SHA-256 in hex"),
        (lambda receipt: receipt["archive"].update(format=7), "its archive.format is not a text"),
        (lambda receipt: receipt["archive"].update(members={"a": 1}), "its archive.members is not a list of objects"),
        (lambda receipt: receipt["archive"].update(members=[1]), "its archive.members is not a list of objects"),
        (lambda receipt: receipt["archive"]["members"][1].update(name=CONFIG), "archive.members[1].name is not"),
        (lambda receipt: receipt["adapter"].update(sha256=[1]), "its adapter.sha256 is not an object"),
        (lambda receipt: receipt.update(schema_version=9), "is not a receipt of this version"),
        (lambda receipt: receipt.clear(), "is not a receipt of this version"),
    ],
)
def test_a_damaged_receipt_is_no_verdict(
    cli: Cli, released: Path, tmp_path: Path, change: Callable[[Any], object], said: str
) -> None:
    done = cli("verify", released / "tiny.zip", "--receipt", changed(released, tmp_path / "r.json", change))
    assert done.code == 2
    assert said in done.err
    assert done.out == ""


def test_a_release_that_did_not_come_to_its_upload(cli: Cli, released: Path, tmp_path: Path) -> None:
    early = changed(released, tmp_path / "r.json", lambda receipt: receipt.update(archive=None, object=None))
    code, said = verified(cli, released / "tiny.tar.gz", early)
    assert (code, said["compared"]) == (0, [CONFIG, WEIGHTS])
    assert "did not come as far as the upload" in said["notes"][0]
    early = changed(
        released, tmp_path / "r.json", lambda receipt: receipt.update(archive=None, object=None, adapter={})
    )
    done = cli("verify", released / "tiny.zip", "--receipt", early)
    assert done.code == 3
    assert "records no digest to compare with" in done.err


@pytest.mark.parametrize(
    ("archive", "receipt", "said"),
    [
        ("nowhere.zip", "folder.json", "'nowhere.zip' cannot be read: No such file"),
        ("tiny.zip", "nowhere.json", "There is no receipt 'nowhere.json'"),
        ("tiny.zip", "tiny.zip", "is not a receipt of this version"),
        ("tiny.zip", ".", "cannot be read"),
        ("pipe", "folder.json", "is not a regular file"),
        ("s3://bucket/prefix/", "folder.json", "s3://bucket/prefix/"),
        ("http://store.example.com/a.zip", "folder.json", "is not https"),
        ("tiny.zip", None, "There is no receipt for 'tiny.zip'"),
    ],
)
def test_what_cannot_be_read(
    cli: Cli,
    released: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    archive: str,
    receipt: str | None,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("tiny.zip", "folder.json"):
        shutil.copy(released / name, name)
    os.mkfifo("pipe")
    done = cli("verify", archive, *(["--receipt", receipt] if receipt else []))
    assert done.code == 2
    assert said in done.err


def test_the_receipt_of_the_default_name(
    cli: Cli, released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the archive or in the working folder; the name of the uploaded object has a digest behind it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside").mkdir()
    archive = tmp_path / "beside" / "my-adapter-d1b9eb1047368032.zip"
    shutil.copy(released / "tiny.zip", archive)
    shutil.copy(released / "folder.json", "beside/my-adapter.verify-folder.receipt.json")
    assert cli("verify", archive).code == 0
    shutil.move("beside/my-adapter.verify-folder.receipt.json", "my-adapter.receipt.json")
    assert cli("verify", archive).code == 0
    shutil.copy(released / "direct.json", "my-adapter.other.receipt.json")
    done = cli("verify", archive)
    assert done.code == 2
    assert "2 receipts may be those of" in done.err
    assert "--receipt" in done.err
    shutil.copy(released / "direct.json", "my-adapter-2.receipt.json")
    assert cli("verify", archive, "--receipt", "my-adapter.receipt.json").code == 0


def test_names_from_inside_an_archive_are_escaped(cli: Cli, released: Path, tmp_path: Path) -> None:
    zipped(tmp_path / "a.zip", {**own_files(), "\x1b[31mred\n::error::x": b"1"})
    done = cli("verify", tmp_path / "a.zip", "--receipt", released / "folder.json")
    assert done.code == 1
    assert "\x1b" not in done.text
    assert "\n::error" not in done.text
