"""Tensor names, config fields, sources: the adapter's parts, one table each."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from builders import TINY, TINY_BASE, renamed, write_adapter

import lora_packer
from lora_packer.adapter.config import parse_config
from lora_packer.adapter.config_mending import KEEP, mended_value
from lora_packer.adapter.keys import canonical_name, parse_key
from lora_packer.adapter.strict_json import StrictJsonError, parse

P = "base_model.model."


@pytest.mark.parametrize(
    ("name", "path", "part", "adapter_name"),
    [
        (P + "model.layers.0.q.lora_A.weight", "model.layers.0.q", "lora_A.weight", None),
        (P + "q.lora_B.default.weight", "q", "lora_B.weight", "default"),
        (P + "q.lora_B.my-run.bias", "q", "lora_B.bias", "my-run"),
        (P + "e.lora_embedding_A", "e", "lora_embedding_A", None),
        (P + "e.lora_embedding_B.default", "e", "lora_embedding_B", "default"),
        (P + "q.lora_magnitude_vector", "q", "lora_magnitude_vector", None),
        (P + "q.lora_magnitude_vector.weight", "q", "lora_magnitude_vector", None),
        (P + "q.lora_magnitude_vector.default.weight", "q", "lora_magnitude_vector", "default"),
        (P + "e.token_adapter.trainable_tokens_delta", "e", "token_adapter.trainable_tokens_delta", None),
        (P + "e.token_adapter.base_layer.weight", "e", "token_adapter.base_layer.weight", None),
        (P + "experts.base_layer.lora_A.weight", "experts.base_layer", "lora_A.weight", None),
        (P + "q.base_layer.bias", "q", "base_layer.bias", None),
        (P + "q.lora_monteclora_sampler.std_prior", "q", "lora_monteclora_sampler.std_prior", None),
        (P + "lm_head.weight", "lm_head.weight", "", None),
        ("q.lora_A.weight", "q", "lora_A.weight", None),
        ("lora_A.weight", "", "lora_A.weight", None),
        ("", "", "", None),
    ],
)
def test_names_are_taken_apart(name: str, path: str, part: str, adapter_name: str | None) -> None:
    key = parse_key(name)
    assert (key.path, key.part, key.adapter_name) == (path, part, adapter_name)
    assert key.prefixed == name.startswith(P)
    assert parse_key(canonical_name(name)) == key._replace(adapter_name=None)


@pytest.mark.parametrize(
    "wrapper",
    ["_orig_mod", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module", "_forward_module", "module"],
)
def test_a_wrapper_that_was_left_in_a_name_is_known(tmp_path: Path, wrapper: str) -> None:
    tensors = renamed(lambda name: name.replace(".self_attn.", f".{wrapper}.self_attn."))
    report = lora_packer.check(write_adapter(tmp_path, tensors), base_config=TINY_BASE)
    (finding,) = report.findings
    assert f"the segment '{wrapper}.' of a training wrapper" in finding.message


@pytest.mark.parametrize(
    ("raw", "field", "value"),
    [
        ({"target_modules": ["a", "b"]}, "target_modules", ("a", "b")),
        ({"target_modules": "all-linear"}, "target_modules", "all-linear"),
        ({"layers_to_transform": 3}, "layers_to_transform", (3,)),
        ({"layers_to_transform": []}, "layers_to_transform", None),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices", {None: (1, 2)}),
        ({"trainable_token_indices": {"e": [1]}}, "trainable_token_indices", {"e": (1,)}),
        ({"rank_pattern": {"b": 1, "a": 2}}, "rank_pattern", {"b": 1, "a": 2}),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication", ((0, 2), (1, 2))),
        ({"use_dora": None}, "use_dora", False),
        ({"use_bdlora": None}, "use_bdlora", None),
        ({"layer_replication": [[2, 2], [2, 1], [-1, 2]]}, "layer_replication", ((2, 2), (2, 1), (-1, 2))),
        ({"alpha_pattern": {"q": 0}}, "alpha_pattern", {"q": 0}),
        ({"lora_alpha": 0, "alpha_pattern": {"q": 8}}, "lora_alpha", 0),
        ({"trainable_token_indices": [0]}, "trainable_token_indices", {None: (0,)}),
        ({"init_lora_weights": "gaussian"}, "init_lora_weights", "gaussian"),
    ],
)
def test_config_fields(raw: dict[str, Any], field: str, value: Any) -> None:
    config, problems = parse_config({"peft_type": "LORA", **raw})
    assert getattr(config, field) == value
    assert problems == ()
    if field == "rank_pattern":
        assert list(config.rank_pattern) == ["b", "a"]  # the first that matches wins


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target_modules", 3), ("target_modules", [1]), ("exclude_modules", 3), ("target_parameters", "x"),
        ("modules_to_save", "lm_head"), ("layers_to_transform", ["0"]), ("layers_to_transform", 2.0),
        ("rank_pattern", []), ("rank_pattern", {"a": 0}), ("alpha_pattern", {"a": "8"}),
        ("layer_replication", [[2]]), ("layer_replication", "x"), ("trainable_token_indices", [-1]),
        ("trainable_token_indices", 3), ("bias", "some"),
        ("init_lora_weights", 3), ("use_bdlora", "x"), ("use_bdlora", False), ("lora_dropout", None),
        ("lora_dropout", "0.1"), ("lora_dropout", 1.5), ("alora_invocation_tokens", "x"), ("arrow_config", True),
    ],
)  # fmt: skip
def test_a_field_of_the_wrong_type_is_named(field: str, value: Any) -> None:
    _, problems = parse_config({"peft_type": "LORA", "target_modules": ["q_proj"], field: value})
    assert [(problem.kind, problem.field) for problem in problems] == [("invalid", field)]


@pytest.mark.parametrize(
    ("field", "value", "taken"),
    [
        ("base_model_name_or_path", 3, None),
        ("peft_version", 9, None),
        ("target_modules", {"a": 1}, ("a",)),
        ("exclude_modules", {}, None),
        ("exclude_modules", ["a", 3], ("a",)),
        ("target_parameters", [None, "a.b"], ("a.b",)),
        ("modules_to_save", "", ()),
        ("layers_to_transform", True, (1,)),
        ("layers_to_transform", [0.0, 1.5], (0,)),
        ("layers_pattern", False, ()),
        ("layer_replication", 0, ()),
        ("layer_replication", [[False, True]], ((0, 1),)),
        ("lora_alpha", True, 1),
        ("init_lora_weights", {}, False),
        ("monteclora_config", [], None),
    ],
)
def test_what_peft_takes_for_another_value_is_told_and_taken_so(field: str, value: Any, taken: Any) -> None:
    config, problems = parse_config({"peft_type": "LORA", field: value})
    assert getattr(config, field) == taken
    assert [(problem.kind, problem.field) for problem in problems] == [("odd", field)]


@pytest.mark.parametrize(
    ("value", "taken"), [(1, True), ("no", True), ([0], True), (0, False), ("", False), ({}, False)]
)
def test_a_switch_that_is_not_written_true_or_false_is_taken_as_python_takes_it(value: Any, taken: bool) -> None:
    config, problems = parse_config({"peft_type": "LORA", "use_rslora": value})
    assert config.use_rslora is taken
    assert [(problem.kind, problem.field) for problem in problems] == [("odd", "use_rslora")]


def test_scale() -> None:
    plain, _ = parse_config({"peft_type": "LORA", "r": 16, "lora_alpha": 32})
    assert plain.scale(16, 32) == 2
    rank_stabilised, _ = parse_config({"peft_type": "LORA", "use_rslora": True})
    assert rank_stabilised.scale(16, 32) == 8


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xff", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"{", "Expecting"),
        (b"[" * 100_000, "nested"),
        (b"9" * 10_000, "a number of 10000 digits"),
    ],
)
def test_strict_json_refuses(data: bytes, says: str) -> None:
    with pytest.raises(StrictJsonError, match=says):
        parse(data)


def test_strict_json_doubts() -> None:
    value, problems = parse(b'{"a": 1, "a": 2, "b": {"c": NaN}, "d": 1e999}')
    assert value["a"] == 2
    assert [problem.key for problem in problems] == ["c", "a", "d"]


# --- sources ---------------------------------------------------------------------------------------------------------


def zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


FILES = {path.name: path.read_bytes() for path in TINY.iterdir()}


@pytest.mark.parametrize("prefix", ["", "./"])
@pytest.mark.parametrize("kind", ["stored", "deflated", "tar.gz"])
def test_archives_are_read_like_folders(tmp_path: Path, kind: str, prefix: str) -> None:
    members = {prefix + name: data for name, data in FILES.items()}
    if kind == "tar.gz":
        archive = tarred(tmp_path / "a.tar.gz", members)
    else:
        how = zipfile.ZIP_STORED if kind == "stored" else zipfile.ZIP_DEFLATED
        archive = zipped(tmp_path / "a.zip", members, how)
    report = lora_packer.check(archive, base_config=TINY_BASE)
    assert (report.status, report.findings, report.adapter.tensors) == ("ok", (), 8)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_nested_archive_is_a_finding(tmp_path: Path, kind: str) -> None:
    members = {f"my-adapter/{name}": data for name, data in FILES.items()}
    archive = zipped(tmp_path / "a.zip", members) if kind == "zip" else tarred(tmp_path / "a.tar.gz", members)
    report = lora_packer.check(archive, base_config=TINY_BASE)
    assert [(f.code, f.count) for f in report.findings] == [("LP101", 2)]
    assert "my-adapter" in (report.findings[0].hint or "")


def test_what_cannot_be_read_at_all(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    cut = tmp_path / "cut.zip"
    cut.write_bytes(zipped(tmp_path / "a.zip", FILES).read_bytes()[:-40])
    torn = tmp_path / "torn.tar.gz"
    torn.write_bytes(tarred(tmp_path / "a.tar.gz", FILES).read_bytes()[:-200])
    twice = zipfile.ZipFile(tmp_path / "twice.zip", "w")
    twice.writestr("adapter_config.json", b"{}")
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice.writestr("adapter_config.json", b"{}")
    twice.writestr("adapter_model.safetensors", b"")
    twice.close()
    pipe = tmp_path / "pipe"
    pipe.mkdir()
    os.mkfifo(pipe / "adapter_config.json")
    (pipe / "adapter_model.safetensors").write_bytes(b"")
    folder = tmp_path / "folder"
    (folder / "adapter_model.safetensors").mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    huge = write_adapter(tmp_path / "huge")
    (huge / "adapter_config.json").write_bytes(b" " * 5_000_000)
    for adapter, says in {
        tmp_path / "nowhere": "no folder or archive",
        text: "neither a folder nor",
        cut: "cannot be read",
        torn: "cannot be read",
        tmp_path / "twice.zip": "2 times",
        pipe: "not a regular file",
        folder: "not a regular file",
        huge: "5000000 bytes",
    }.items():
        with pytest.raises(lora_packer.InputError, match=says):
            lora_packer.check(adapter, base_config=TINY_BASE)


def test_a_symlink_into_a_cache_is_read(tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).symlink_to(TINY / name)
    assert lora_packer.check(tmp_path, base_config=TINY_BASE).ok


@pytest.mark.parametrize("rank", [float("nan"), float("inf"), -float("inf"), 1e300, 8.5, "8.5", "1e999", "9" * 400])
def test_a_rank_that_is_no_whole_number_is_not_mended(rank: object) -> None:
    assert mended_value({"r": rank}, "r") is KEEP


@pytest.mark.parametrize(("rank", "meant"), [(8.0, 8), ("8", 8), (" 16.0 ", 16)])
def test_a_rank_that_is_written_as_another_type_is_mended(rank: object, meant: int) -> None:
    assert mended_value({"r": rank}, "r") == meant
