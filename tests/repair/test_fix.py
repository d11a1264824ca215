"""``fix`` from the outside: what is broken comes back as it was, to the last bit, and the adapter itself is left alone."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from breakages import BREAKAGES
from builders import PREFIX, TINY, TINY_BASE, Tensors, ones, tiny_config, tiny_tensors, write_adapter
from safetensors.numpy import load_file, save_file

import lora_packer
from lora_packer.pipeline.fix import default_output

Cli = Callable[..., Any]
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def run(cli: Cli, adapter: Path | str, *more: object) -> tuple[int, dict[str, Any]]:
    result = cli("fix", adapter, "--base-config", TINY_BASE, "--format", "json", *more)
    return result.code, json.loads(result.out)


def same(fixed: Path, tensors: Tensors | None = None, config: dict[str, Any] | None = None) -> None:
    """The result has these tensors, bit for bit, and this config; by default the tiny adapter's."""
    found = load_file(fixed / WEIGHTS)
    wanted = tiny_tensors() if tensors is None else tensors
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert found[name].tobytes() == tensor.tobytes(), name
    assert json.loads((fixed / CONFIG).read_text()) == (tiny_config() if config is None else config)


@pytest.mark.parametrize("kind", BREAKAGES)
def test_what_was_broken_comes_back_as_it_was(kind: str, cli: Cli, tmp_path: Path) -> None:
    repair, breaks = BREAKAGES[kind]
    broken = write_adapter(tmp_path / "broken", *breaks(tiny_tensors(), tiny_config()))
    before = digests(broken)
    code, told = run(cli, broken, "--output", tmp_path / "fixed")
    assert (code, told["status"], told["output"]) == (0, "fixed", str(tmp_path / "fixed"))
    assert repair in {item["name"] for item in told["repairs"]}
    assert all(item["proof"] and item["message"] and item["count"] for item in told["repairs"])
    assert told["check"]["status"] == "ok"
    assert digests(broken) == before
    config = tiny_config()
    for field in ("target_modules", "layers_to_transform", "exclude_modules"):
        if repair == "targets":  # the same modules, named in some way
            config[field] = json.loads((tmp_path / "fixed" / CONFIG).read_text()).get(field, ...)
    same(tmp_path / "fixed", config={name: value for name, value in config.items() if value is not ...})
    assert (tmp_path / "fixed" / WEIGHTS).read_bytes() == (TINY / WEIGHTS).read_bytes()
    again, told = run(cli, tmp_path / "fixed", "--output", tmp_path / "again")
    assert (again, told["status"], told["repairs"]) == (0, "unchanged", [])
    assert digests(tmp_path / "again") == digests(tmp_path / "fixed")


@pytest.mark.parametrize("kind", [kind for kind in BREAKAGES if kind != "a target too many"])
def test_what_is_mended_was_told_to_be_fixable(kind: str, cli: Cli, tmp_path: Path) -> None:
    _, breaks = BREAKAGES[kind]
    broken = write_adapter(tmp_path / "broken", *breaks(tiny_tensors(), tiny_config()))
    report = json.loads(cli("check", broken, "--base-config", TINY_BASE, "--format", "json").out)
    codes = {item["code"] for item in report["findings"] if item["fixable"]}
    _, told = run(cli, broken, "--diff")
    assert {item["code"] for item in told["repairs"]} <= codes
    text = cli("check", broken, "--base-config", TINY_BASE).out
    assert text.endswith(f"\nfixable: lora-packer fix {broken} --base-config {TINY_BASE}\n")


@pytest.mark.parametrize("kind", BREAKAGES)
def test_the_command_that_check_ends_with_leaves_nothing_fixable(kind: str, cli: Cli, tmp_path: Path) -> None:
    _, breaks = BREAKAGES[kind]
    broken = write_adapter(tmp_path / "broken", *breaks(tiny_tensors(), tiny_config()))
    last = cli("check", broken, "--base-config", TINY_BASE).out.splitlines()[-1]
    words = shlex.split(last.removeprefix("fixable: lora-packer "))
    assert words[0] == "fix"
    assert cli(*words).code == 0
    report = json.loads(cli("check", tmp_path / "broken-fixed", "--base-config", TINY_BASE, "--format", "json").out)
    assert [item["code"] for item in report["findings"] if item["fixable"]] == []


NAMES = [
    "prefix lost",
    "prefix twice",
    "one model. lost",
    "several wrappers",
    "default left",
    "lower case",
    "no .weight",
]
CONFIGS = ["a target missing", "no target", "layers left out", "excluded", "unknown field", "no peft_type"]
HALVES = ["exchanged", "transposed", "A alone transposed"]
TWO = [
    *((one, other) for one in NAMES for other in (*CONFIGS, *HALVES)),
    *((one, other) for one in HALVES for other in CONFIGS),
]


@pytest.mark.parametrize(("one", "other"), TWO)
def test_two_breakages_at_once_come_back_too(one: str, other: str, tmp_path: Path) -> None:
    """Names show what is targeted, and what is targeted shows which names are wrong."""
    broken = write_adapter(tmp_path / "broken", *BREAKAGES[one][1](*BREAKAGES[other][1](tiny_tensors(), tiny_config())))
    result = lora_packer.fix(broken, tmp_path / "fixed", base_config=TINY_BASE, target="peft")
    assert (result.status, result.skipped) == ("fixed", ())
    assert {BREAKAGES[one][0], BREAKAGES[other][0]} & {item.name for item in result.repairs}
    assert (tmp_path / "fixed" / WEIGHTS).read_bytes() == (TINY / WEIGHTS).read_bytes()
    again = lora_packer.fix(tmp_path / "fixed", tmp_path / "again", base_config=TINY_BASE, target="peft")
    assert (again.status, again.repairs) == ("unchanged", ())


def test_a_good_adapter_is_copied(cli: Cli, tmp_path: Path) -> None:
    code, told = run(cli, TINY, "--output", tmp_path / "copy")
    assert (code, told["status"], told["repairs"], told["skipped"]) == (0, "unchanged", [], [])
    for name in (WEIGHTS, CONFIG):
        assert (tmp_path / "copy" / name).read_bytes() == (TINY / name).read_bytes()


def test_the_default_output_is_beside_the_adapter(cli: Cli, tmp_path: Path) -> None:
    write_adapter(tmp_path / "mine")
    result = cli("fix", tmp_path / "mine", "--base-config", TINY_BASE)
    assert result.code == 0
    assert result.out.endswith(f"unchanged: {tmp_path / 'mine-fixed'}: a copy, nothing was to be done\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine-fixed"]


@pytest.mark.parametrize(
    ("given", "output"), [(".", "run/mine-fixed"), ("..", "run-fixed"), ("../mine", "../mine-fixed")]
)
def test_a_folder_is_called_what_it_is_called_where_it_is(
    given: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run" / "mine")
    assert default_output(given) == (Path(output) if output.startswith(".") else tmp_path / output)


def test_what_cannot_be_mended_is_said_and_the_rest_is_done(cli: Cli, tmp_path: Path) -> None:
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in tiny_tensors().items()}
    del tensors["model.layers.0.self_attn.q_proj.lora_B.weight"]
    broken = write_adapter(tmp_path / "broken", tensors)
    code, told = run(cli, broken, "--output", tmp_path / "fixed")
    assert (code, told["status"]) == (1, "failed")
    assert [item["name"] for item in told["repairs"]] == ["names"]
    assert [(item["name"], item["code"]) for item in told["skipped"]] == [("half-pair", "LP306")]
    assert "half of it was lost" in told["skipped"][0]["reason"]


def test_where_nothing_can_be_done_nothing_is_written(cli: Cli, tmp_path: Path) -> None:
    tensors = tiny_tensors()
    tensors[next(iter(tensors))][0, 0] = np.nan
    broken = write_adapter(tmp_path / "broken", tensors)
    code, told = run(cli, broken, "--output", tmp_path / "fixed")
    assert (code, told["status"], told["output"], told["repairs"]) == (1, "failed", None, [])
    assert [item["code"] for item in told["skipped"]] == ["LP401"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


def test_without_a_base_model_it_is_inconclusive(cli: Cli, tmp_path: Path) -> None:
    tensors = {"_orig_mod." + name: tensor for name, tensor in tiny_tensors().items()}
    broken = write_adapter(tmp_path / "broken", tensors, tiny_config(base_model_name_or_path=None))
    result = cli("fix", broken, "--format", "json", "--output", tmp_path / "fixed")
    told = json.loads(result.out)
    assert (result.code, told["status"]) == (3, "inconclusive")
    assert [item["name"] for item in told["repairs"]] == ["names"]
    same(tmp_path / "fixed", config=tiny_config(base_model_name_or_path=None))


def test_diff_shows_and_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in tiny_tensors().items()}
    broken = write_adapter(tmp_path / "broken", tensors, tiny_config(brand_new=1))
    result = cli("fix", broken, "--base-config", TINY_BASE, "--diff")
    assert result.code == 0
    first = "model.layers.0.self_attn.q_proj.lora_A.weight"
    assert f"- {first}\n+ {PREFIX}{first}\n" in result.out
    assert '-  "brand_new": 1,\n' in result.out
    assert result.out.endswith("fixed: 2 repairs, nothing was written\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


def test_diff_says_why_no_second_library_read_the_file(cli: Cli, tmp_path: Path) -> None:
    assert cli("pack", TINY, "--output", tmp_path / "packed.zip", "--no-check").code == 0
    for adapter, why in ((TINY, "and what was checked is on none"), (tmp_path / "packed.zip", "inside an archive")):
        _, told = run(cli, adapter, "--diff")
        assert [item["code"] for item in told["check"]["unchecked"]] == ["LP105"]
        assert told["check"]["unchecked"][0]["reason"].endswith(why)


@pytest.mark.parametrize("make", ["file", "full", "inside", "itself", "nowhere"])
def test_a_place_that_is_none_is_refused(make: str, cli: Cli, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "mine")
    place = tmp_path / "there"
    if make == "file":
        place.write_text("mine")
    elif make == "full":
        place.mkdir()
        (place / "mine").write_text("mine")
    elif make in ("inside", "itself"):
        place = adapter / "below" if make == "inside" else adapter
    else:
        place = tmp_path / "no" / "folder"
    before = digests(tmp_path)
    result = cli("fix", adapter, "--base-config", TINY_BASE, "--output", place)
    assert result.code == 2
    assert "--output" in result.err
    assert digests(tmp_path) == before


def test_an_empty_folder_is_taken(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert run(cli, TINY, "--output", tmp_path / "there")[0] == 0
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == [CONFIG, WEIGHTS]


def test_an_archive_is_mended_too(cli: Cli, tmp_path: Path) -> None:
    for suffix in (".zip", ".tar.gz"):
        tensors = {name.removeprefix(PREFIX): tensor for name, tensor in tiny_tensors().items()}
        broken = write_adapter(tmp_path / "broken", tensors)
        archive = tmp_path / f"packed{suffix}"
        assert cli("pack", broken, "--output", archive, "--no-check").code == 0
        code, told = run(cli, archive)
        assert (code, told["output"]) == (0, str(tmp_path / "packed-fixed"))
        same(tmp_path / "packed-fixed")
        (tmp_path / "packed-fixed").rename(tmp_path / f"done{suffix}")


def test_readme_and_tokenizer_go_along(cli: Cli, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "mine")
    (adapter / "README.md").write_text("# mine")
    (adapter / "optimizer.pt").write_text("large")
    assert run(cli, adapter)[0] == 0
    assert sorted(path.name for path in (tmp_path / "mine-fixed").iterdir()) == ["README.md", CONFIG, WEIGHTS]
    assert (tmp_path / "mine-fixed" / "README.md").read_text() == "# mine"


def test_python_has_the_same(tmp_path: Path) -> None:
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in tiny_tensors().items()}
    write_adapter(tmp_path / "broken", tensors)
    result = lora_packer.fix(tmp_path / "broken", tmp_path / "fixed", base_config=TINY_BASE)
    assert [item.name for item in result.repairs] == ["names"]
    assert (result.skipped, result.report.ok, result.ok, result.status) == ((), True, True, "fixed")


def test_a_square_layer_alone_does_not_say_how_it_lies(cli: Cli, tmp_path: Path) -> None:
    base = json.loads(TINY_BASE.read_text()) | {"num_attention_heads": 3, "head_dim": 16, "num_key_value_heads": 3}
    (tmp_path / "base.json").write_text(json.dumps(base))
    rng = np.random.default_rng(1)
    tensors = {}
    for layer in range(2):
        for module in ("q_proj", "v_proj"):
            path = f"{PREFIX}model.layers.{layer}.self_attn.{module}"
            tensors[f"{path}.lora_A.weight"] = rng.standard_normal((48, 4)).astype(np.float32)
            tensors[f"{path}.lora_B.weight"] = rng.standard_normal((4, 48)).astype(np.float32)
    broken = write_adapter(tmp_path / "broken", tensors)
    options = ("--base-config", tmp_path / "base.json", "--format", "json")
    report = json.loads(cli("check", broken, *options).out)
    assert [(item["code"], item["fixable"]) for item in report["findings"]] == [("LP303", False)]
    result = cli("fix", broken, *options)
    assert result.code == 1
    assert "looks the same transposed and exchanged" in json.loads(result.out)["skipped"][0]["reason"]


def test_padded_float32_is_halved_and_comes_back(cli: Cli, tmp_path: Path) -> None:
    tensors = {
        name: (tensor.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        for name, tensor in tiny_tensors().items()
    }
    padded = write_adapter(tmp_path / "padded", tensors)
    code, told = run(cli, padded, "--output", tmp_path / "fixed")
    assert (code, [item["code"] for item in told["repairs"]]) == (0, ["LP406"])
    raw = (tmp_path / "fixed" / WEIGHTS).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    for name, tensor in tensors.items():
        begin, end = (8 + length + offset for offset in header[name]["data_offsets"])
        assert header[name]["dtype"] == "BF16"
        half = np.frombuffer(raw[begin:end], np.uint16).astype(np.uint32) << np.uint32(16)
        assert half.tobytes() == tensor.tobytes()
    assert run(cli, tmp_path / "fixed")[1]["status"] == "unchanged"


def base_weights(folder: Path) -> Tensors:
    rng = np.random.default_rng(7)
    config = json.loads(TINY_BASE.read_text())
    shape = (config["vocab_size"], config["hidden_size"])
    own = {
        name: rng.standard_normal(shape).astype(np.float16) for name in ("model.embed_tokens.weight", "lm_head.weight")
    }
    folder.mkdir()
    save_file(own, folder / "model.safetensors", {"format": "pt"})
    return {name: tensor.astype(np.float32) for name, tensor in own.items()}


def test_copies_of_the_base_models_weights_are_taken_out(cli: Cli, tmp_path: Path) -> None:
    own = base_weights(tmp_path / "base")
    more = {PREFIX + name: tensor for name, tensor in own.items()}
    broken = write_adapter(tmp_path / "broken", tiny_tensors() | more)
    code, told = run(cli, broken, "--output", tmp_path / "as-it-is")
    assert (code, [item["code"] for item in told["skipped"]]) == (0, ["LP320"])
    assert "--base-weights" in told["skipped"][0]["reason"]
    code, told = run(cli, broken, "--output", tmp_path / "fixed", "--base-weights", tmp_path / "base")
    assert (code, [(item["name"], item["count"]) for item in told["repairs"]]) == (0, [("base-weights", 2)])
    same(tmp_path / "fixed")


def test_weights_that_were_trained_stay(cli: Cli, tmp_path: Path) -> None:
    own = base_weights(tmp_path / "base")
    own["lm_head.weight"][3, 3] += 1
    more = {PREFIX + name: tensor for name, tensor in own.items()}
    broken = write_adapter(tmp_path / "broken", tiny_tensors() | more)
    _, told = run(cli, broken, "--output", tmp_path / "fixed", "--base-weights", tmp_path / "base")
    assert [item["count"] for item in told["repairs"]] == [1]
    assert "modules_to_save" in told["skipped"][0]["reason"]
    assert PREFIX + "lm_head.weight" in load_file(tmp_path / "fixed" / WEIGHTS)


def test_a_saved_module_that_training_did_not_change_goes(cli: Cli, tmp_path: Path) -> None:
    own = base_weights(tmp_path / "base")
    more = {PREFIX + "lm_head.weight": own["lm_head.weight"]}
    broken = write_adapter(tmp_path / "broken", tiny_tensors() | more, tiny_config(modules_to_save=["lm_head"]))
    code, told = run(cli, broken, "--output", tmp_path / "fixed", "--base-weights", tmp_path / "base")
    assert (code, [item["name"] for item in told["repairs"]]) == (0, ["base-weights"])
    same(tmp_path / "fixed", config=tiny_config(modules_to_save=None))


def test_a_rank_is_set_only_where_that_is_allowed(cli: Cli, tmp_path: Path) -> None:
    broken = write_adapter(tmp_path / "broken", config=tiny_config(r=16))
    code, told = run(cli, broken)
    assert (code, told["output"]) == (1, None)
    assert "--allow rank-from-tensors" in told["skipped"][0]["reason"]
    code, told = run(cli, broken, "--allow", "rank-from-tensors")
    assert (code, told["status"]) == (0, "fixed")
    same(tmp_path / "broken-fixed", config=tiny_config(r=4))


def test_rounding_keeps_its_bound(cli: Cli, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    tensors = {
        n: (rng.standard_normal(t.shape) * 10.0 ** rng.integers(-30, 30)).astype(np.float32)
        for n, t in tiny_tensors().items()
    }
    adapter = write_adapter(tmp_path / "mine", tensors)
    code, told = run(cli, adapter, "--allow", "bfloat16")
    assert (code, [item["name"] for item in told["repairs"]]) == (0, ["bfloat16"])
    raw = (tmp_path / "mine-fixed" / WEIGHTS).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    for name, tensor in tensors.items():
        begin, end = (8 + length + offset for offset in header[name]["data_offsets"])
        found = (np.frombuffer(raw[begin:end], np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
        error = np.abs(found.astype(np.float64) - tensor.reshape(-1)) / np.abs(tensor.reshape(-1).astype(np.float64))
        assert 0 < error.max() <= 2.0**-8


def test_a_lower_rank_is_the_best_there_is(cli: Cli, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    tensors = {name: rng.standard_normal(tensor.shape).astype(np.float32) for name, tensor in tiny_tensors().items()}
    adapter = write_adapter(tmp_path / "mine", tensors)
    code, told = run(cli, adapter, "--allow", "svd-rank=2")
    assert (code, [item["name"] for item in told["repairs"]]) == (0, ["svd-rank"])
    found = load_file(tmp_path / "mine-fixed" / WEIGHTS)
    config = json.loads((tmp_path / "mine-fixed" / CONFIG).read_text())
    old, new = tiny_config()["lora_alpha"] / 4, config["lora_alpha"] / config["r"]
    assert (config["r"], new) == (2, old)
    errors = []
    for name in tensors:
        if "lora_A" in name:
            other = name.replace("lora_A", "lora_B")
            before, after = tensors[other] @ tensors[name], found[other] @ found[name]
            singular = np.linalg.svd(before, compute_uv=False)
            error = np.linalg.norm(before - after) / np.linalg.norm(before)
            assert error == pytest.approx(np.linalg.norm(singular[2:]) / np.linalg.norm(singular), rel=1e-4)
            errors.append(error)
    assert f"at most {max(errors):.3g}" in told["repairs"][0]["proof"]


@pytest.mark.parametrize("word", ["everything", "svd-rank", "svd-rank=0", "svd-rank=many"])
def test_what_is_no_lossy_repair_is_refused(word: str, cli: Cli, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "mine")
    result = cli("fix", adapter, "--base-config", TINY_BASE, "--allow", word)
    assert result.code == 2
    assert "--allow" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("named", "more", "meant"),
    [
        ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", (), "unsloth/Meta-Llama-3.1-8B-Instruct"),
        ("unsloth/Qwen3-8B-unsloth-bnb-4bit", (), "unsloth/Qwen3-8B"),
        ("/root/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/abc", (), "Qwen/Qwen3-8B"),
    ],
)
def test_the_base_models_id_is_one_that_others_find(
    named: str, more: tuple[str, ...], meant: str, cli: Cli, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "mine", config=tiny_config(base_model_name_or_path=named))
    code, told = run(cli, adapter, *more)
    assert (code, [item["name"] for item in told["repairs"]]) == (0, ["base-id"])
    same(tmp_path / "mine-fixed", config=tiny_config(base_model_name_or_path=meant))


def test_a_place_on_a_disk_is_told(cli: Cli, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "mine", config=tiny_config(base_model_name_or_path="/data/my-llama"))
    code, told = run(cli, adapter)
    assert (code, [item["name"] for item in told["skipped"]]) == (0, ["base-id"])
    assert "--base-model" in told["skipped"][0]["reason"]


def test_two_tensors_that_would_have_one_name_stay(cli: Cli, tmp_path: Path) -> None:
    tensors = tiny_tensors()
    first = next(iter(tensors))
    tensors[first.replace(PREFIX, PREFIX + "_orig_mod.")] = tensors[first] * 2
    broken = write_adapter(tmp_path / "broken", tensors)
    before = digests(broken)
    code, told = run(cli, broken)
    assert "names" not in {item["name"] for item in told["repairs"]}
    assert digests(broken) == before
    assert (code, told["output"], len(told["skipped"])) == (1, None, 1)


def test_dora_is_switched_on_where_every_module_has_its_magnitude(cli: Cli, tmp_path: Path) -> None:
    tensors = tiny_tensors()
    for name in list(tensors):
        if name.endswith("lora_B.weight"):
            magnitude = name.replace("lora_B.weight", "lora_magnitude_vector")
            tensors[magnitude] = ones(tensors[name].shape[0]) * np.float32(0.3)
    broken = write_adapter(tmp_path / "broken", tensors, tiny_config(use_dora=False))
    code, told = run(cli, broken)
    assert (code, [item["code"] for item in told["repairs"]]) == (0, ["LP314"])
    same(tmp_path / "broken-fixed", tensors, tiny_config(use_dora=True))
