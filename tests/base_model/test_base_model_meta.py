"""A model type without a definition, where transformers is in the same environment: an answer, and never a crash."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lora_packer.base_model import meta
from lora_packer.base_model.fallback import find_base
from lora_packer.base_model.module import Module
from lora_packer.errors import InconclusiveError, UnknownArchitecture


class _Model:
    """What transformers' class looks like from outside."""

    def __init__(self, embeddings: Any, vocab_size: int | None = 8) -> None:
        self._embeddings = embeddings
        self.config = SimpleNamespace(vocab_size=vocab_size)

    def named_modules(self) -> Any:
        return iter(())

    def get_input_embeddings(self) -> Any:
        return self._embeddings()


def _not_handled() -> Any:
    raise NotImplementedError("`get_input_embeddings` not auto-handled for CLIPModel; please override in the subclass.")


def _no_attribute() -> Any:
    raise AttributeError("'CLIPVisionModel' object has no attribute 'embed_tokens'")


@pytest.fixture(name="installed")
def _installed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An installed transformers of which nothing works."""
    module = ModuleType("transformers")
    module.__version__ = "5.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", module)
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    monkeypatch.setattr(meta, "is_available", lambda: True)
    monkeypatch.setattr(meta, "modules_of", lambda _model: {})
    return module


@pytest.mark.parametrize("embeddings", [_not_handled, _no_attribute, lambda: None])
def test_a_class_that_names_no_input_embedding_is_told(
    installed: ModuleType, monkeypatch: pytest.MonkeyPatch, embeddings: Any
) -> None:
    monkeypatch.setattr(meta, "_built", lambda _config: _Model(embeddings))
    with pytest.raises(UnknownArchitecture, match=r"transformers 5\.0 does not say which input embedding") as told:
        find_base({"model_type": "segformer"})
    assert "there is no proven definition for the model type 'segformer'" in str(told.value)


@pytest.mark.usefixtures("installed")
def test_a_class_that_reads_no_tokens_has_no_input_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meta, "_built", lambda _config: _Model(_no_attribute, None))
    assert find_base({"model_type": "segformer"}).input_embedding is None


class _Hearing(_Model):
    """A model whose first layer is a convolution, which it calls its input embedding."""

    def __init__(self) -> None:
        super().__init__(lambda: self)

    def named_modules(self) -> Any:
        return iter([("conv1", self)])


def test_a_convolution_is_no_input_embedding(installed: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meta, "_built", lambda _config: _Hearing())
    monkeypatch.setattr(meta, "modules_of", lambda _model: {"conv1": Module("conv", (8, 4, 3), True)})
    with pytest.raises(UnknownArchitecture, match="does not say which input embedding the model type 'glmasr_encoder'"):
        find_base({"model_type": "glmasr_encoder"})


def test_a_class_that_transformers_does_not_have_is_no_other_one(
    installed: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.PreTrainedModel = _Model  # type: ignore[attr-defined]
    config = {"model_type": "dia", "architectures": ["NobodysForCausalLM"]}
    with pytest.raises(UnknownArchitecture, match="it has no class 'NobodysForCausalLM', which the base config names"):
        find_base(config)


@pytest.mark.parametrize(
    "error", [OSError("libcudart.so.12 is missing"), ImportError("hub>=1 is required"), KeyError()]
)
def test_an_installation_that_does_not_work_is_told(
    installed: ModuleType, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(_config: Any) -> Any:
        raise error

    monkeypatch.setattr(meta, "_built", broken)
    reason = str(error) or "KeyError"
    with pytest.raises(InconclusiveError, match=f"transformers 5.0 cannot build the model type 'clip': {reason}"):
        meta.load_meta({"model_type": "clip"}, None)


def test_a_torch_that_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InconclusiveError, match="the installed transformers cannot build the model type 'clip'"):
        meta.load_meta({"model_type": "clip"}, None)


def test_a_model_that_names_no_input_embedding_does_not_crash_the_installed_transformers() -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = {"model_type": "clip", "architectures": ["CLIPModel"], "text_config": small, "vision_config": small}
    with pytest.raises(UnknownArchitecture, match="does not say which input embedding"):
        find_base(config)
