"""The class defaults that are recorded from transformers, and how definitions get them by name."""

from __future__ import annotations

import json
import sys

import pytest
from builders import ROOT

from lora_packer.base_model import ARCHITECTURES, BaseModel
from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture, like, resolved
from lora_packer.base_model.blocks.composite import Part, Tower, fixed
from lora_packer.base_model.defaults import FILE, REMOTE, recorded
from lora_packer.base_model.settings import Settings

_TYPES = json.loads(FILE.read_text(encoding="utf-8"))["types"]


def test_the_file_says_what_made_it_and_from_which_transformers():
    made = json.loads(FILE.read_text(encoding="utf-8"))
    assert made["made_by"] == "tools/record_defaults.py"
    assert made["transformers"] == "5.24.0"


def test_every_definition_has_recorded_defaults():
    remote = json.loads(REMOTE.read_text(encoding="utf-8"))["types"]
    lost = {name: found.defaults for name, found in ARCHITECTURES.items() if found.defaults not in {**_TYPES, **remote}}
    assert lost == {}
    assert [name for name in remote if name in _TYPES] == []


def test_what_llama_has():
    # transformers/models/llama/configuration_llama.py; num_key_value_heads is derived, so it is not recorded
    assert recorded("llama")["vocab_size"] == 32000
    assert recorded("llama")["intermediate_size"] == 11008
    assert "num_key_value_heads" not in recorded("llama")


def test_an_absent_field_has_the_recorded_default_and_a_null_one_does_not():
    assert Settings({}, "llama").size("vocab_size") == 32000
    assert Settings({"vocab_size": 8}, "llama").size("vocab_size") == 8
    assert Settings({"vocab_size": None}, "llama").optional_size("vocab_size") is None


def test_a_type_without_recorded_defaults_is_not_guessed():
    with pytest.raises(KeyError):
        Settings({}, "no-such-type")


def test_recorded_defaults_cannot_be_changed():
    with pytest.raises(TypeError):
        recorded("llama")["vocab_size"] = 1  # type: ignore[index]


def test_a_nested_config_has_the_defaults_of_its_type_and_what_its_parent_puts():
    parent = {"text_config": {"model_type": "llama", "hidden_size": 5120}}
    text = Settings({"text_config": {"vocab_size": 7}}, parent).nested("text_config")
    assert (text.size("vocab_size"), text.size("hidden_size"), text.size("intermediate_size")) == (7, 5120, 11008)


def _part(*, filled: bool = False) -> Part:
    return Part("text_config", "llama", {"llama": Tower("llama", lambda s: iter(()))}.get, filled=filled)


_PARENT = {"text_config": {"model_type": "llama", "hidden_size": 5120}}


@pytest.mark.parametrize(
    ("config", "filled", "hidden"),
    [
        ({}, False, 5120),  # what the parent puts where there is none
        ({"text_config": None}, False, 5120),
        ({"text_config": {}}, False, 4096),  # one that is there has the defaults of its class
        ({"text_config": {}}, True, 5120),  # but where the parent fills in each field
        ({"text_config": {"hidden_size": 64}}, True, 64),
    ],
)
def test_what_a_nested_config_lacks(config: dict[str, object], filled: bool, hidden: int):
    settings, _ = _part(filled=filled).of(Settings(config, _PARENT))
    assert settings.size("hidden_size") == hidden


def test_a_part_of_one_class_takes_the_defaults_that_its_tower_names():
    settings, _ = fixed("vision_config", Tower("clip_vision_model", lambda s: iter(()))).of(Settings({}, {}))
    assert settings.size("patch_size") == 32


def test_a_type_like_another_has_its_modules_and_its_own_defaults():
    llama = ARCHITECTURES["llama"]
    found = resolved("smollm3", like("llama", {"default_targets": ()}), lambda _: llama)
    assert found.dialects == llama.dialects
    assert found.default_targets == ()
    modules = dict(found.dialects[TRANSFORMERS_5](Settings({}, found.defaults or ""), "none"))
    assert modules["embed_tokens"].weight_shape == (128256, 2048)


def test_an_entry_may_keep_defaults_of_its_own():
    own = Architecture({}, defaults={"hidden_size": 8})
    assert resolved("llama", own, ARCHITECTURES.__getitem__).defaults == {"hidden_size": 8}


def test_a_config_with_nothing_but_its_type_is_the_class_default():
    assert BaseModel.load({"model_type": "voxtral"}).modules[
        "model.language_model.layers.0.self_attn.q_proj"
    ].weight_shape == (4096, 3072)


def test_what_one_type_adds_leaves_the_rest_as_it_is():
    sys.path.insert(0, str(ROOT / "tools"))
    from record_defaults import merged, text_of

    assert text_of(_TYPES, "5.24.0") == FILE.read_text(encoding="utf-8")
    more = merged({"a": {"x": 1, "y": 2}, "b": {"z": 3}}, {"a": {"y": 2, "w": 4}, "c": {"v": 5}})
    assert more == {"a": {"x": 1, "y": 2, "w": 4}, "b": {"z": 3}, "c": {"v": 5}}
