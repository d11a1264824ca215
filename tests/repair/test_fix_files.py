"""``fix`` on files that are elsewhere, in pieces, pickled or padded; and pickles that would run something."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import FIXTURES_PICKLED, PREFIX, TINY, TINY_BASE, tiny_config, tiny_tensors, write_adapter
from safetensors.numpy import save_file

import lora_packer
from lora_packer.adapter import open_source
from lora_packer.inspector import stages
from lora_packer.repair.draft_source import DraftSource
from lora_packer.repair.find import find

Cli = Callable[..., Any]
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
SHARDED = "pytorch_model_fsdp_0"


def run(cli: Cli, adapter: Path, *more: object) -> tuple[int, dict[str, Any]]:
    result = cli("fix", adapter, "--base-config", TINY_BASE, "--format", "json", *more)
    return result.code, json.loads(result.out)


def fixable(cli: Cli, adapter: Path) -> dict[str, bool]:
    report = json.loads(cli("check", adapter, "--base-config", TINY_BASE, "--format", "json").out)
    return {item["code"]: item["fixable"] for item in report["findings"]}


def as_it_was(folder: Path) -> None:
    assert (folder / WEIGHTS).read_bytes() == (TINY / WEIGHTS).read_bytes()
    assert json.loads((folder / CONFIG).read_text()) == tiny_config()


def nested(folder: Path) -> None:
    write_adapter(folder / "final")
    (folder / "trainer_state.json").write_text("{}")


def checkpoints(folder: Path) -> None:
    for step in (9, 100):
        write_adapter(folder / f"checkpoint-{step}", {n: t * (step == 100) for n, t in tiny_tensors().items()})


def shards(folder: Path) -> None:
    write_adapter(folder)
    names = list(tiny_tensors())
    (folder / WEIGHTS).unlink()
    index = {}
    for at, own in enumerate((names[:3], names[3:]), 1):
        shard = f"adapter_model-0000{at}-of-00002.safetensors"
        save_file({name: tiny_tensors()[name] for name in own}, folder / shard, {"format": "pt"})
        index |= dict.fromkeys(own, shard)
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def pickled(folder: Path) -> None:
    write_adapter(folder)
    (folder / WEIGHTS).unlink()
    shutil.copy(FIXTURES_PICKLED / "adapter_model.bin", folder)


def sharded(folder: Path) -> None:
    write_adapter(folder)
    (folder / WEIGHTS).unlink()
    shutil.copytree(FIXTURES_PICKLED / SHARDED, folder / SHARDED)
    shutil.copytree(FIXTURES_PICKLED / SHARDED, folder / "optimizer_0")


def sharded_beside_the_config(folder: Path) -> None:
    shutil.copytree(FIXTURES_PICKLED / SHARDED, folder)
    (folder / CONFIG).write_text(json.dumps(tiny_config()))


def pickled_under_another_name(folder: Path) -> None:
    write_adapter(folder)
    shutil.copy(FIXTURES_PICKLED / "adapter_model.bin", folder / WEIGHTS)


def another_case(folder: Path) -> None:
    write_adapter(folder)
    (folder / CONFIG).rename(folder / "Adapter_Config.json")


def trailing(folder: Path) -> None:
    write_adapter(folder)
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"\0" * 100)


def no_metadata(folder: Path) -> None:
    write_adapter(folder)
    save_file(tiny_tensors(), folder / WEIGHTS)


def with_mark(folder: Path) -> None:
    write_adapter(folder)
    (folder / CONFIG).write_bytes(b"\xef\xbb\xbf" + json.dumps(tiny_config()).encode())


def in_utf16(folder: Path) -> None:
    write_adapter(folder)
    (folder / CONFIG).write_text(json.dumps(tiny_config()), encoding="utf-16")


def twice_the_same(folder: Path) -> None:
    write_adapter(folder)
    text = json.dumps(tiny_config())
    (folder / CONFIG).write_text(f'{{"r": 4, {text[1:]}')


FILES: dict[str, tuple[str, str | None, Callable[[Path], None]]] = {
    "in a folder below": ("nested-folder", "LP101", nested),
    "the newest checkpoint": ("nested-folder", "LP101", checkpoints),
    "shards": ("shards", "LP101", shards),
    "FSDP's shards": ("shards", "LP101", sharded),
    "FSDP's shards, beside the config": ("shards", "LP101", sharded_beside_the_config),
    "pickled": ("pickle", "LP101", pickled),
    "pickled, with the other name": ("pickle", "LP104", pickled_under_another_name),
    "another case": ("file-name", "LP101", another_case),
    "bytes behind the end": ("trailing-bytes", "LP104", trailing),
    "no metadata": ("metadata", None, no_metadata),
    "byte order mark": ("json", "LP102", with_mark),
    "UTF-16": ("json", "LP102", in_utf16),
    "a key twice": ("json", "LP103", twice_the_same),
}


@pytest.mark.parametrize("kind", FILES)
def test_what_is_elsewhere_or_in_another_form_is_brought_home(kind: str, cli: Cli, tmp_path: Path) -> None:
    name, code, make = FILES[kind]
    broken = tmp_path / "broken"
    make(broken)
    before = {path: path.read_bytes() for path in broken.rglob("*") if path.is_file()}
    if code is not None:
        assert fixable(cli, broken)[code]
    ended, told = run(cli, broken)
    assert (ended, told["status"]) == (0, "fixed")
    assert [(item["name"], item["code"]) for item in told["repairs"]] == [(name, code)]
    as_it_was(tmp_path / "broken-fixed")
    assert {path: path.read_bytes() for path in broken.rglob("*") if path.is_file()} == before
    assert run(cli, tmp_path / "broken-fixed")[1]["status"] == "unchanged"


def test_a_key_twice_with_two_values_stays(cli: Cli, tmp_path: Path) -> None:
    broken = write_adapter(tmp_path / "broken", config=f'{{"r": 8, {json.dumps(tiny_config())[1:]}')
    code, told = run(cli, broken)
    assert (code, told["output"], told["skipped"][0]["code"]) == (1, None, "LP103")


def test_one_shard_of_two_is_not_the_adapter(cli: Cli, tmp_path: Path) -> None:
    shards(tmp_path / "broken")
    (tmp_path / "broken" / "adapter_model-00002-of-00002.safetensors").unlink()
    assert not fixable(cli, tmp_path / "broken")["LP101"]
    code, told = run(cli, tmp_path / "broken")
    assert (code, told["output"], told["skipped"][0]["code"]) == (1, None, "LP101")


# --- pickles that would run something --------------------------------------------------------------------------------


class Runs:
    """What Python's own reader would run."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (f"touch {self.marker}",)


def torch_file(data: bytes, storages: dict[str, bytes] | None = None, **members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("archive/data.pkl", data)
        for key, content in (storages or {}).items():
            file.writestr(f"archive/data/{key}", content)
        for name, content in members.items():
            file.writestr(f"archive/{name}", content)
    return out.getvalue()


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def number(value: int) -> bytes:
    data = value.to_bytes(9, "little", signed=True)
    return b"\x8a\x09" + data


def tensor(
    elements: int, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, storage: str = "FloatStorage"
) -> bytes:
    pid = (
        b"("
        + text("storage")
        + b"ctorch\n"
        + storage.encode()
        + b"\n"
        + text("0")
        + text("cpu")
        + number(elements)
        + b"tQ"
    )
    sizes = b"(" + b"".join(map(number, shape)) + b"t"
    strides = b"(" + b"".join(map(number, stride)) + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + pid + number(offset) + sizes + strides + b"\x89}tR"


def state(value: bytes, name: str = PREFIX + "x.lora_A.weight") -> bytes:
    return b"\x80\x02}" + text(name) + value + b"s."


def many_views(count: int) -> bytes:
    """A dictionary whose tensors are all the one storage."""
    names = [f"{PREFIX}model.layers.{at}.q_proj.lora_A.weight" for at in range(count)]
    whole = tensor(1 << 14, (1 << 14,), (1,))
    return b"\x80\x02}(" + b"".join(text(name) + whole for name in names) + b"u."


def hostile(marker: Path) -> dict[str, bytes]:
    four = {"0": np.zeros(4, np.float32).tobytes()}
    return {
        "os.system": torch_file(pickle.dumps({"a": Runs(marker)}, protocol=2)),
        "os.system, protocol 4": torch_file(pickle.dumps({"a": Runs(marker)}, protocol=4)),
        "os.system, protocol 0": torch_file(pickle.dumps({"a": Runs(marker)}, protocol=0)),
        "a name alone": torch_file(b"\x80\x02cposix\nsystem\n."),
        "eval": torch_file(b"\x80\x02c__builtin__\neval\n" + text("1") + b"\x85R."),
        "a method": torch_file(b"\x80\x02ctorch\nload\n" + text(str(marker)) + b"\x85R."),
        "a storage called": torch_file(b"\x80\x02ctorch\nFloatStorage\n)R."),
        "NEWOBJ": torch_file(b"\x80\x02ccollections\nOrderedDict\n)\x81."),
        "INST": torch_file(b"\x80\x02(iposix\nsystem\n."),
        "OBJ": torch_file(b"\x80\x02(ccollections\nOrderedDict\no."),
        "EXT1": torch_file(b"\x80\x02\x82\x01."),
        "a plain persistent id": torch_file(b"\x80\x02P" + b"x\n."),
        "deep": torch_file(b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b"."),
        "deep lists": torch_file(b"\x80\x02" + b"]" + b"]a" * 200_000 + b"."),
        "deep memo": torch_file(b"\x80\x02" + b"".join(b"}r" + at.to_bytes(4, "little") for at in range(1_200_000)) + b"."),
        "memo of nothing": torch_file(b"\x80\x02h\x07."),
        "a long text": torch_file(b"\x80\x02X\xff\xff\xff\x7f" + b"a" * 100),
        "cut": torch_file(b"\x80\x02}X"),
        "empty": torch_file(b""),
        "a huge shape": torch_file(state(tensor(4, (1 << 40, 1 << 40), (0, 0))), four),
        "one element a billion times": torch_file(state(tensor(4, (1 << 30,), (0,))), four),
        "behind the storage": torch_file(state(tensor(4, (4,), (1,), offset=1)), four),
        "a negative stride": torch_file(state(tensor(4, (2,), (-1,), offset=3)), four),
        "a huge storage": torch_file(state(tensor(1 << 45, (4,), (1,))), four),
        "a storage that is missing": torch_file(state(tensor(4, (4,), (1,)))),
        "no storage type": torch_file(state(tensor(4, (4,), (1,), storage="load")), four),
        "a tuple of tuples of tuples": torch_file(b"\x80\x02)" + b"".join(b"q%ch%ch%c\x86" % ((at,) * 3) for at in range(200)) + b"."),
        "a tuple of tuples called": torch_file(b"\x80\x02)" + b"".join(b"q%ch%ch%c\x86" % ((at,) * 3) for at in range(200)) + b")R."),
        "a tuple of tuples as a key": torch_file(b"\x80\x02}(" + b")" * 60 + b"\x86" * 59 + b"Nu."),
        "BUILD on a list": torch_file(b"\x80\x02]}b."),
        "REDUCE of a rebuild of nothing": torch_file(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R."),
        "EXT4": torch_file(b"\x80\x02\x84\x01\x00\x00\x00."),
        "BINPERSID of a name": torch_file(b"\x80\x02cposix\nsystem\nQ."),
        "BINPERSID of text": torch_file(b"\x80\x02" + text("s3://somewhere") + b"Q."),
        "LONG4": torch_file(b"\x80\x02\x8b\xff\xff\xff\x7f" + b"\x01" * 64 + b"."),
        "BINBYTES8": torch_file(b"\x80\x04\x8e" + b"\xff" * 8 + b"."),
        "many views of the same bytes": torch_file(many_views(20), {"0": bytes(4 << 14)}),
        "no tensors": torch_file(b"\x80\x02}."),
        "no dictionary": torch_file(b"\x80\x02]."),
        "another byte order": torch_file(state(tensor(4, (4,), (1,))), four, byteorder=b"big"),
        "a zip of something": torch_file(b"\x80\x02}.").replace(b"data.pkl", b"data.txt"),
        "an old pickle": pickle.dumps({"a": Runs(marker)}, protocol=2),
        "nothing": b"",
        "text": b"version https://git-lfs.github.com/spec/v1\n",
    }  # fmt: skip


@pytest.mark.parametrize("kind", hostile(Path("x")))
def test_a_hostile_pickle_is_refused_in_a_sentence_and_runs_nothing(kind: str, cli: Cli, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    broken = write_adapter(tmp_path / "broken")
    (broken / WEIGHTS).unlink()
    (broken / "adapter_model.bin").write_bytes(hostile(marker)[kind])
    code, told = run(cli, broken)
    assert (code, told["status"], told["output"]) == (1, "failed", None)
    (reason,) = [item["reason"] for item in told["skipped"] if item["name"] == "weights-file"]
    assert reason.startswith(("'adapter_model.bin' cannot be read: ", "its tensors are views of the same bytes: "))
    assert len(reason) <= 360
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


def test_a_small_pickle_of_the_same_kind_is_read(cli: Cli, tmp_path: Path) -> None:
    """The nearest neighbour of what is refused: the same builder, and nothing wrong."""
    from lora_packer.repair.torch_file import read_torch_file

    content = torch_file(state(tensor(4, (2, 2), (1, 2))), {"0": np.arange(4, dtype=np.float32).tobytes()})
    found = read_torch_file(io.BytesIO(content), "adapter_model.bin")
    assert [(blob.dtype, blob.shape) for blob in found.values()] == [("F32", (2, 2))]


def test_the_values_are_read_while_the_file_is_being_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    events: list[str] = []
    scan = stages.scan_by_parts

    def watched(*args: Any) -> Any:
        events.append("values")
        return scan(*args)

    def written(name: str) -> Path:
        events.append("waited")
        return TINY / name

    monkeypatch.setattr(stages, "scan_by_parts", watched)
    with open_source(TINY) as source:
        draft = find(source, ()).draft
        assert draft is not None
        report = lora_packer.check(DraftSource(draft, source, written), base_config=TINY_BASE)  # type: ignore[arg-type]
    assert report.ok
    assert events == ["values", "waited"]


@pytest.mark.parametrize(
    "kind", ["a rank missing", "a hole", "a cut file", "a program", "no metadata of torch", "empty"]
)
def test_shards_that_are_not_all_there_are_not_joined(kind: str, cli: Cli, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    sharded(broken)
    metadata, part = broken / SHARDED / ".metadata", broken / SHARDED / "__1_0.distcp"
    told = metadata.read_bytes()
    wanted = "do not make the whole of it"
    if kind == "a rank missing":
        part.unlink()
        wanted = "there is no 'pytorch_model_fsdp_0/__1_0.distcp'"
    elif kind == "a hole":
        assert b"K@K\x04\x86" in told  # (64, 4)
        metadata.write_bytes(told.replace(b"K@K\x04\x86", b"KAK\x04\x86", 1))
    elif kind == "a cut file":
        part.write_bytes(part.read_bytes()[:5000])
        wanted = "it has no end record"
    elif kind == "a program":
        metadata.write_bytes(pickle.dumps(Runs(tmp_path / "it-ran")))
        wanted = "which is neither imported nor called"
    elif kind == "no metadata of torch":
        metadata.write_bytes(pickle.dumps({"a": 1}))
        wanted = "it has no Metadata where one has to be"
    else:
        metadata.write_bytes(b"")
        wanted = "its pickle is damaged"
    code, result = run(cli, broken)
    assert (code, result["status"], result["output"]) == (1, "failed", None)
    reasons = [item["reason"] for item in result["skipped"] if item["name"] == "weights-file"]
    assert len(reasons) == 1
    assert wanted in reasons[0]
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]
