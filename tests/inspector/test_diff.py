"""``diff``: how far each update moved, against the dense products; what was added, removed, or could not be compared."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import PREFIX, TINY, Tensors, raw_safetensors, tiny_config, tiny_tensors, write_adapter
from hub_support import point_to
from numpy.typing import NDArray

import lora_packer
from lora_packer import Diff, ModuleChange
from lora_packer.inspector import moved
from lora_packer.sandbox import LocalHub, Sandbox

Cli = Callable[..., Any]
Array = NDArray[Any]
WEIGHTS = "adapter_model.safetensors"
Q0, Q1, V0 = (f"model.layers.{at}.self_attn.{kind}_proj" for at, kind in ((0, "q"), (1, "q"), (0, "v")))


def random_tensors(seed: int = 7, rank: int = 4, dtype: type[Any] = np.float32) -> Tensors:
    random = np.random.default_rng(seed)
    found: Tensors = {}
    for name, tensor in tiny_tensors().items():
        shape = [rank if size == 4 else size for size in tensor.shape]
        found[name] = random.standard_normal(shape).astype(dtype)
    return found


def nudged(tensors: Tensors, by: float) -> Tensors:
    random = np.random.default_rng(11)
    return {n: (t + by * random.standard_normal(t.shape)).astype(t.dtype) for n, t in tensors.items()}


def by_module(found: Diff) -> dict[str, ModuleChange]:
    return {item.module: item for item in found.modules}


def dense(tensors: Tensors, module: str, scale: float) -> Array:
    a, b = (tensors[f"{PREFIX}{module}.lora_{half}.weight"].astype(np.float64) for half in "AB")
    return scale * (b @ a)


def bfloat16(folder: Path, tensors: Tensors, config: Mapping[str, Any]) -> tuple[Path, Tensors]:
    """Write the tensors as bfloat16, and return what they are then."""
    write_adapter(folder, {}, config)
    header, data, kept = {}, b"", {}
    for name, tensor in tensors.items():
        half = (np.ascontiguousarray(tensor, np.float32).view(np.uint32) >> 16).astype("<u2")
        kept[name] = (half.astype(np.uint32) << 16).view(np.float32)
        begin = len(data)
        data += half.tobytes()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [begin, len(data)]}
    (folder / WEIGHTS).write_bytes(raw_safetensors(header, data))
    return folder, kept


Scale = Callable[[str], float]
PLAIN: Scale = lambda module: 2.0  # noqa: E731


@pytest.mark.parametrize("piece", [1 << 20, 40, 1])
@pytest.mark.parametrize(
    ("old", "new", "old_config", "new_config", "old_scale", "new_scale"),
    [
        (random_tensors(1), random_tensors(2), {}, {}, PLAIN, PLAIN),
        (random_tensors(1), nudged(random_tensors(1), 1e-3), {}, {}, PLAIN, PLAIN),
        (random_tensors(1), random_tensors(2, rank=8), {}, {"r": 8}, PLAIN, lambda _: 1.0),
        (random_tensors(1), random_tensors(2, rank=1), {}, {"r": 1}, PLAIN, lambda _: 8.0),
        (random_tensors(1), random_tensors(1), {}, {"use_rslora": True}, PLAIN, lambda _: 4.0),
        (random_tensors(1), random_tensors(2), {}, {"use_rslora": True}, PLAIN, lambda _: 4.0),
        (
            random_tensors(1),
            random_tensors(2),
            {"alpha_pattern": {"v_proj": 2}},
            {"alpha_pattern": {r"layers\.1\..*": 20}},
            lambda module: 0.5 if "v_proj" in module else 2.0,
            lambda module: 5.0 if ".1." in module else 2.0,
        ),
        (random_tensors(1), random_tensors(2), {}, {"lora_alpha": -8}, PLAIN, lambda _: -2.0),
        (random_tensors(1, dtype=np.float16), random_tensors(2, dtype=np.float64), {}, {}, PLAIN, PLAIN),
    ],
)
def test_how_far_it_moved_is_that_of_the_dense_products(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    piece: int,
    old: Tensors,
    new: Tensors,
    old_config: dict[str, Any],
    new_config: dict[str, Any],
    old_scale: Scale,
    new_scale: Scale,
) -> None:
    monkeypatch.setattr(moved, "_PIECE", piece)
    found = lora_packer.diff(
        write_adapter(tmp_path / "old", old, tiny_config(**old_config)),
        write_adapter(tmp_path / "new", new, tiny_config(**new_config)),
    )
    assert found.status == "changed"
    assert len(found.modules) == 4
    squares = np.zeros(2)
    for module, item in by_module(found).items():
        before, after = dense(old, module, old_scale(module)), dense(new, module, new_scale(module))
        between = np.linalg.norm(after - before)
        squares += between**2, np.linalg.norm(before) ** 2
        assert item.moved == pytest.approx(100 * between / np.linalg.norm(before), rel=1e-6)
        assert item.old_norm == pytest.approx(np.linalg.norm(before), rel=1e-9)
        assert item.new_norm == pytest.approx(np.linalg.norm(after), rel=1e-9)
        assert (item.old_scale, item.new_scale) == (old_scale(module), new_scale(module))
    assert found.overall == pytest.approx(100 * math.sqrt(squares[0] / squares[1]), rel=1e-6)
    moves = [item.moved for item in found.modules]
    assert moves == sorted(moves, reverse=True)


def test_bfloat16_against_float32(tmp_path: Path) -> None:
    tensors = random_tensors()
    folder, kept = bfloat16(tmp_path / "new", tensors, tiny_config())
    found = by_module(lora_packer.diff(write_adapter(tmp_path / "old", tensors), folder))
    for module, item in found.items():
        before, after = dense(tensors, module, 2), dense(kept, module, 2)
        assert item.moved == pytest.approx(100 * np.linalg.norm(after - before) / np.linalg.norm(before), rel=1e-5)
        assert 0 < item.moved < 1


@pytest.mark.parametrize("by", [1e-3, 1e-6, 1e-9, 1e-12])
def test_a_tiny_move_is_told_exactly(tmp_path: Path, by: float) -> None:
    """The squares of the norms differ in the 24th digit then; the moves are of one element in float64."""
    old = random_tensors(dtype=np.float64)
    new = {name: tensor.copy() for name, tensor in old.items()}
    name = f"{PREFIX}{Q0}.lora_B.weight"
    new[name][3, 2] += by
    found = by_module(lora_packer.diff(write_adapter(tmp_path / "o", old), write_adapter(tmp_path / "n", new)))
    step = new[name][3, 2] - old[name][3, 2]
    expected = step * np.linalg.norm(old[f"{PREFIX}{Q0}.lora_A.weight"][2]) * 2
    assert found[Q0].moved == pytest.approx(100 * expected / np.linalg.norm(dense(old, Q0, 2)), rel=1e-2)
    assert [item.moved for module, item in found.items() if module != Q0] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("how", ["rotated", "scaled", "padded"])
def test_the_same_product_stored_otherwise_has_not_moved(tmp_path: Path, how: str) -> None:
    old = random_tensors(dtype=np.float64)
    new, config = dict(old), tiny_config()
    for name in old:
        if ".lora_A." in name:
            other = name.replace(".lora_A.", ".lora_B.")
            if how == "rotated":
                turn = np.linalg.qr(np.random.default_rng(5).standard_normal((4, 4)))[0]
                new[name], new[other] = turn @ old[name], old[other] @ turn.T
            elif how == "scaled":
                new[other] = old[other] / 2
                config = tiny_config(lora_alpha=16)
            else:
                new[name] = np.concatenate([old[name], np.zeros_like(old[name])])
                new[other] = np.concatenate([old[other], np.ones_like(old[other])], axis=1) * 2
                config = tiny_config(r=8)
    found = lora_packer.diff(write_adapter(tmp_path / "o", old), write_adapter(tmp_path / "n", new, config))
    assert found.status == "changed"
    assert all(item.moved is not None and item.moved < 1e-11 for item in found.modules)
    assert found.overall is not None
    assert found.overall < 1e-11


def test_the_same_adapter_has_moved_by_exactly_nothing(cli: Cli, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", random_tensors())
    found = lora_packer.diff(folder, write_adapter(tmp_path / "b", random_tensors()))
    assert (found.status, found.overall, [item.moved for item in found.modules]) == ("same", 0.0, [0.0] * 4)
    done = cli("diff", folder, tmp_path / "b", "--fail-above", "0")
    assert done.code == 0
    assert done.out.endswith("same: 4 modules, config and values alike\n")
    assert cli("diff", folder, tmp_path / "b", "-q").out == "same: 4 modules, config and values alike\n"


def test_another_scale_of_the_same_bytes_is_told_without_rounding(tmp_path: Path) -> None:
    old = write_adapter(tmp_path / "a", random_tensors())
    found = lora_packer.diff(old, write_adapter(tmp_path / "b", random_tensors(), tiny_config(lora_alpha=12)))
    assert [item.moved for item in found.modules] == pytest.approx([50.0] * 4, rel=1e-12)
    assert [(item.field, item.old, item.new) for item in found.config] == [("lora_alpha", 8, 12)]


def test_modules_that_came_and_went(cli: Cli, tmp_path: Path) -> None:
    old = random_tensors()
    new = {name: tensor for name, tensor in old.items() if Q0 not in name}
    for half, shape in (("A", (4, 64)), ("B", (64, 4))):
        new[f"{PREFIX}model.layers.0.self_attn.o_proj.lora_{half}.weight"] = np.ones(shape, np.float32)
    folders = write_adapter(tmp_path / "o", old), write_adapter(tmp_path / "n", new)
    found = by_module(lora_packer.diff(*folders))
    gone, come = found[Q0], found["model.layers.0.self_attn.o_proj"]
    assert (gone.change, gone.moved, gone.new_norm, gone.new_rank) == ("removed", 100.0, None, None)
    assert gone.old_norm == pytest.approx(np.linalg.norm(dense(old, Q0, 2)))
    assert (come.change, come.moved, come.old_norm, come.new_norm) == ("added", 100.0, None, pytest.approx(2 * 4 * 64))
    assert cli("diff", *folders, "--fail-above", "99").code == 1
    assert cli("diff", *folders, "--fail-above", "100").code == 0
    out = cli("diff", *folders).out
    assert "removed" in out
    assert "changed: 1 added, 1 removed of 5 modules" in out


def test_an_update_of_zeros_before(tmp_path: Path) -> None:
    zero = {n: np.zeros_like(t) if ".lora_B." in n else t for n, t in random_tensors().items()}
    folder = write_adapter(tmp_path / "o", zero)
    found = lora_packer.diff(folder, write_adapter(tmp_path / "n", random_tensors()))
    assert ([item.moved for item in found.modules], found.overall) == ([100.0] * 4, None)
    other = {n: t if ".lora_B." in n else t + 1 for n, t in zero.items()}
    found = lora_packer.diff(folder, write_adapter(tmp_path / "m", other))
    assert [(item.moved, item.change) for item in found.modules] == [(0.0, "changed")] * 4


def test_dora_is_compared_by_direction_and_by_magnitude(tmp_path: Path) -> None:
    name = f"{PREFIX}{Q0}.lora_magnitude_vector"
    old = {**random_tensors(), name: np.full(64, 2, np.float32)}
    new = {**random_tensors(), name: np.full(64, 3, np.float32)}
    config = tiny_config(use_dora=True)
    found = lora_packer.diff(write_adapter(tmp_path / "o", old, config), write_adapter(tmp_path / "n", new, config))
    (item,) = [item for item in found.modules if item.kind == "tensor"]
    assert (item.module, item.moved) == (f"{Q0}.lora_magnitude_vector", pytest.approx(50.0))
    assert [other.moved for other in found.modules if other.kind == "update"] == [0.0] * 4
    assert found.overall == 0.0


def test_embeddings_convolutions_and_saved_weights(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    shapes = {
        "model.embed_tokens.lora_embedding_A": (4, 30),
        "model.embed_tokens.lora_embedding_B": (8, 4),
        "model.conv.lora_A.weight": (4, 6, 3, 3),
        "model.conv.lora_B.weight": (10, 4, 1, 1),
        "lm_head.weight": (30, 8),
    }
    old, new = (
        {PREFIX + name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(2)
    )
    found = by_module(lora_packer.diff(write_adapter(tmp_path / "o", old), write_adapter(tmp_path / "n", new)))

    def product(tensors: Tensors, a: str, b: str) -> Array:
        first, second = tensors[PREFIX + a].astype(np.float64), tensors[PREFIX + b].astype(np.float64)
        return second.reshape(-1, 4) @ first.reshape(4, -1)

    for module, a, b in (
        ("model.embed_tokens", "model.embed_tokens.lora_embedding_A", "model.embed_tokens.lora_embedding_B"),
        ("model.conv", "model.conv.lora_A.weight", "model.conv.lora_B.weight"),
    ):
        before, after = product(old, a, b), product(new, a, b)
        assert found[module].moved == pytest.approx(100 * np.linalg.norm(after - before) / np.linalg.norm(before))
    before, after = (tensors[PREFIX + "lm_head.weight"].astype(np.float64) for tensors in (old, new))
    head = found["lm_head.weight"]
    assert head.kind == "tensor"
    assert head.moved == pytest.approx(100 * np.linalg.norm(after - before) / np.linalg.norm(before))


@pytest.mark.parametrize("piece", [1 << 20, 7])
def test_fused_experts_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(moved, "_PIECE", piece)
    experts, rank, out, size = 3, 2, 5, 4
    config = tiny_config(r=rank, lora_alpha=rank, target_modules=[], target_parameters=["mlp.experts.down_proj"])
    random, folders, halves = np.random.default_rng(3), [], []
    for name in ("o", "n"):
        a, b = random.standard_normal((experts, rank, size)), random.standard_normal((experts, out, rank))
        halves.append((a, b))
        stored = {
            f"{PREFIX}model.layers.0.mlp.experts.lora_A.weight": a.reshape(experts * rank, size),
            f"{PREFIX}model.layers.0.mlp.experts.lora_B.weight": np.ascontiguousarray(
                b.transpose(1, 2, 0).reshape(out, rank * experts)
            ),
        }
        folders.append(write_adapter(tmp_path / name, stored, config))
    (item,) = lora_packer.diff(*folders).modules
    before, after = (np.stack([b[e] @ a[e] for e in range(experts)]) for a, b in halves)
    assert (item.old_rank, item.new_rank) == (rank, rank)
    assert item.moved == pytest.approx(100 * np.linalg.norm(after - before) / np.linalg.norm(before))


# --- what cannot be compared -----------------------------------------------------------------------------------------


def half_lost(tensors: Tensors) -> tuple[Tensors, dict[str, Any]]:
    return {name: tensor for name, tensor in tensors.items() if name != f"{PREFIX}{Q0}.lora_B.weight"}, {}


def not_finite(tensors: Tensors) -> tuple[Tensors, dict[str, Any]]:
    tensors[f"{PREFIX}{Q0}.lora_A.weight"][0, 0] = np.nan
    return tensors, {}


def other_base(tensors: Tensors) -> tuple[Tensors, dict[str, Any]]:
    tensors[f"{PREFIX}{Q0}.lora_A.weight"] = np.ones((4, 32), np.float32)
    return tensors, {}


def integers(tensors: Tensors) -> tuple[Tensors, dict[str, Any]]:
    tensors[f"{PREFIX}{Q0}.lora_A.weight"] = np.ones((4, 64), np.int32)
    return tensors, {}


def transposed(tensors: Tensors) -> tuple[Tensors, dict[str, Any]]:
    name = f"{PREFIX}{Q0}.lora_B.weight"
    tensors[name] = np.ascontiguousarray(tensors[name].T)
    return tensors, {}


def empty(tensors: Tensors) -> tuple[Tensors, dict[str, Any]]:
    tensors[f"{PREFIX}{Q0}.lora_A.weight"] = np.ones((4, 0), np.float32)
    return tensors, {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (empty, "it has tensors without a value"),
        (half_lost, "lora_B is missing"),
        (not_finite, "its values are not finite"),
        (other_base, "the base models differ"),
        (integers, "its values are F32/I32"),
        (transposed, "do not multiply"),
    ],
)
def test_what_cannot_be_compared_is_told_and_is_no_zero(
    cli: Cli, tmp_path: Path, change: Callable[[Tensors], tuple[Tensors, dict[str, Any]]], reason: str
) -> None:
    old = write_adapter(tmp_path / "o", random_tensors())
    tensors, config = change(random_tensors())
    new = write_adapter(tmp_path / "n", tensors, tiny_config(**config))
    done = cli("diff", old, new, "--format", "json")
    assert done.code == 3
    said = json.loads(done.out)
    first = said["modules"][0]
    assert (first["module"], first["change"], first["moved"]) == (Q0, "changed", None)
    assert reason in first["not_compared"]
    assert (said["status"], said["summary"]["not_compared"]) == ("changed", 1)
    assert f"not compared {Q0}: " in cli("diff", old, new, "-q").out
    # The same on both sides is the same, whatever it is.
    assert cli("diff", new, new, "--fail-above", "0").code == 0


def test_a_rank_beyond_what_memory_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moved, "_LARGEST", 63)
    old = write_adapter(tmp_path / "o", random_tensors(1))
    found = lora_packer.diff(old, write_adapter(tmp_path / "n", random_tensors(2)))
    assert {item.not_compared for item in found.modules} == {
        "its rank is 4, for which matrices of 63 numbers are not enough"
    }
    assert found.overall is None


def test_adapters_with_no_name_in_common(cli: Cli, tmp_path: Path) -> None:
    other = {name.replace(".layers.", ".h."): tensor for name, tensor in random_tensors().items()}
    done = cli("diff", TINY, write_adapter(tmp_path / "n", other))
    assert done.code == 0
    assert "nothing in common: the two have no module of the same name" in done.out
    assert "changed: 4 added, 4 removed of 8 modules" in done.out


def test_a_scale_that_needs_the_base_model_is_not_guessed(tmp_path: Path) -> None:
    config = tiny_config(
        r=2,
        target_modules=[],
        target_parameters=["experts.gate_up_proj", "experts.down_proj"],
        rank_pattern={"experts.down_proj": 4},
    )
    stored = {f"{PREFIX}m.experts.lora_A.weight": np.ones((8, 4)), f"{PREFIX}m.experts.lora_B.weight": np.ones((5, 8))}
    old = write_adapter(tmp_path / "o", stored, config)
    new = write_adapter(tmp_path / "n", {name: tensor * 2 for name, tensor in stored.items()}, config)
    (item,) = lora_packer.diff(old, new).modules
    assert item.not_compared == "which expert parameter it belongs to, and so its scale, its name does not say"
    assert lora_packer.diff(old, old).status == "same"


# --- the config ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "fields"),
    [
        ({"target_modules": ["q_proj", "v_proj"]}, {"target_modules": ["v_proj", "q_proj"]}, []),
        ({"use_dora": ...}, {"use_dora": False}, []),
        ({"rank_pattern": ...}, {"rank_pattern": {}}, []),
        ({"a_field_of_tomorrow": ...}, {"a_field_of_tomorrow": None}, []),
        ({"lora_dropout": 0.0}, {"lora_dropout": ...}, []),
        ({"lora_dropout": 0.0}, {"lora_dropout": 0.1}, ["lora_dropout"]),
        ({"use_dora": False}, {"use_dora": True}, ["use_dora"]),
        ({"bias": "none"}, {"bias": "all"}, ["bias"]),
        ({"init_lora_weights": True}, {"init_lora_weights": False}, ["init_lora_weights"]),
        ({"init_lora_weights": True}, {"init_lora_weights": ...}, []),
        ({"alpha_pattern": {"a": 1, "b": 2}}, {"alpha_pattern": {"b": 2, "a": 1}}, ["alpha_pattern"]),
        ({"target_modules": ["q_proj"]}, {"target_modules": "q_proj"}, ["target_modules"]),
        ({"peft_version": "0.18.0"}, {"peft_version": "0.21.2"}, ["peft_version"]),
    ],
)
def test_fields_that_mean_something_else(
    tmp_path: Path, old: dict[str, Any], new: dict[str, Any], fields: list[str]
) -> None:
    folders = [write_adapter(tmp_path / n, None, tiny_config(**c)) for n, c in (("o", old), ("n", new))]
    found = lora_packer.diff(*folders)
    assert [item.field for item in found.config] == fields
    assert found.status == ("changed" if fields else "same")


def test_text_from_a_config_is_escaped(cli: Cli, tmp_path: Path) -> None:
    new = write_adapter(tmp_path / "n", None, tiny_config(**{"odd\x1b[31m": "x\n::error::y", "long": ["z" * 300] * 99}))
    done = cli("diff", TINY, new)
    assert done.code == 0
    assert "\x1b" not in done.text
    assert "\n::error" not in done.text
    assert max(map(len, done.out.splitlines())) < 400
    assert "changed: the config alone; 4 modules as before" in done.out


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    new = random_tensors()
    new[f"{PREFIX}{V0}.lora_B.weight"] *= np.float32(1.5)
    return write_adapter(tmp_path / "old", random_tensors()), write_adapter(tmp_path / "new", new)


def test_the_json_of_it(cli: Cli, two: tuple[Path, Path]) -> None:
    done = cli("diff", *two, "--format", "json")
    said = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert (said["schema_version"], said["status"], said["config"]) == (1, "changed", [])
    assert said["modules"][0] == {
        "module": V0,
        "kind": "update",
        "change": "changed",
        "moved": pytest.approx(50.0),
        "old_norm": pytest.approx(np.linalg.norm(dense(random_tensors(), V0, 2))),
        "new_norm": pytest.approx(1.5 * np.linalg.norm(dense(random_tensors(), V0, 2))),
        "old_rank": 4,
        "new_rank": 4,
        "old_scale": 2.0,
        "new_scale": 2.0,
        "not_compared": None,
    }
    summary = said["summary"]
    assert {name: summary[name] for name in ("modules", "same", "changed", "added", "removed", "not_compared")} == {
        "modules": 4, "same": 3, "changed": 1, "added": 0, "removed": 0, "not_compared": 0,
    }  # fmt: skip
    assert summary["largest"] == pytest.approx(50.0)
    assert 0 < summary["overall"] < 50


def test_the_text_of_it(cli: Cli, two: tuple[Path, Path]) -> None:
    out = cli("diff", *two).out
    assert out.startswith(f"old       {two[0]}\nnew       {two[1]}\n\nmoved by  rank  module\n")
    assert f"    50 %  4     {V0}\n" in out
    assert Q1 not in out


@pytest.mark.parametrize(("percent", "code"), [("49.9", 1), ("51", 0), ("0", 1), ("1e3", 0)])
def test_fail_above(cli: Cli, two: tuple[Path, Path], percent: str, code: int) -> None:
    done = cli("diff", *two, "--fail-above", percent)
    assert done.code == code
    assert (f"1 module moved more than {percent} %, {V0} first" in done.out) is (code == 1 and percent != "1e3")


@pytest.mark.parametrize("percent", ["-1", "nan", "inf"])
def test_a_percentage_that_is_none(cli: Cli, two: tuple[Path, Path], percent: str) -> None:
    done = cli("diff", *two, "--fail-above", percent)
    assert done.code == 2
    assert "a number of percent" in done.err


@pytest.mark.parametrize("suffix", ["zip", "tar.gz", "deflated"])
def test_archives_are_compared_as_folders_are(cli: Cli, two: tuple[Path, Path], tmp_path: Path, suffix: str) -> None:
    archive = tmp_path / f"new.{suffix}"
    if suffix == "deflated":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for file in two[1].iterdir():
                packed.write(file, file.name)
    else:
        lora_packer.pack(two[1], archive, check=False)
    plain, other = (json.loads(cli("diff", two[0], new, "--format", "json").out) for new in (two[1], archive))
    assert other["modules"] == plain["modules"]


def test_output_goes_into_a_file_and_never_over_an_adapter(cli: Cli, two: tuple[Path, Path], tmp_path: Path) -> None:
    done = cli("diff", *two, "--output", tmp_path / "report.txt")
    assert (done.code, done.out) == (0, "")
    assert "changed: 1 changed of 4 modules" in (tmp_path / "report.txt").read_text()
    assert cli("diff", *two, "--format", "json", "--output", tmp_path / "report.json").code == 0
    assert json.loads((tmp_path / "report.json").read_text())["status"] == "changed"
    for own in (two[0] / "adapter_config.json", two[1] / WEIGHTS):
        before = own.read_bytes()
        done = cli("diff", *two, "--output", own)
        assert done.code == 2
        assert "the adapter's own file" in done.err
        assert own.read_bytes() == before


@pytest.mark.parametrize("broken", ["missing", "truncated", "config"])
def test_what_cannot_be_read(cli: Cli, two: tuple[Path, Path], broken: str) -> None:
    if broken == "missing":
        (two[1] / WEIGHTS).unlink()
    elif broken == "truncated":
        (two[1] / WEIGHTS).write_bytes((two[1] / WEIGHTS).read_bytes()[:-9])
    else:
        (two[1] / "adapter_config.json").write_text("{")
    done = cli("diff", *two)
    assert done.code == 2
    assert f"'{two[1]}' cannot be compared: " in done.err
    assert done.out == ""
    assert cli("diff", two[0], two[0] / "nowhere").code == 2


def test_a_pattern_that_is_not_evaluated_is_no_verdict(cli: Cli, two: tuple[Path, Path]) -> None:
    (two[1] / "adapter_config.json").write_text(json.dumps(tiny_config(alpha_pattern={r"(?P<a>x)(?P=a)": 1})))
    done = cli("diff", *two)
    assert done.code == 3
    assert "is not evaluated" in done.err


def test_adapters_on_the_hub_and_at_a_store_are_fetched_and_compared(
    cli: Cli, two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = json.loads(cli("diff", *two, "--format", "json").out)["modules"]
    with LocalHub() as hub:
        hub.add("org/old", two[0])
        point_to(hub, monkeypatch)
        done = cli("diff", "hf://org/old", two[1], "--format", "json")
        assert (done.code, json.loads(done.out)["modules"]) == (0, plain)
    with Sandbox(delay=0) as sandbox:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        archive = lora_packer.pack(two[0], tmp_path / "old.zip", check=False).path
        uri = lora_packer.publish(archive, to=f"s3://{sandbox.s3.bucket}/diff/", check=False).published.object.uri
        done = cli("diff", uri, two[1], "--format", "json")
        assert (done.code, json.loads(done.out)["modules"]) == (0, plain)
