"""Which modules a LoRA config targets, as PEFT decides it.

``peft/tuners/tuners_utils.py::check_target_module_exists`` and ``peft/utils/other.py::get_pattern_key`` of PEFT 0.21.2
(https://github.com/huggingface/peft/tree/v0.21.2/src/peft). Names are matched by whole dotted suffix; only a
``target_modules`` string, ``exclude_modules`` string and the keys of the patterns are regular expressions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from lora_packer.adapter.config import LoraConfig
from lora_packer.adapter.patterns import full_matcher, within_budget
from lora_packer.adapter.plain_patterns import PlainPatterns, is_plain
from lora_packer.base_model import Modules
from lora_packer.frozen import frozen

ALL_LINEAR = "all-linear"
# A model with such a head is saved with it (peft/peft_model.py:1830,2680,2915).
HEADS_OF_TASKS: Mapping[str, tuple[str, ...]] = {
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}

# Where transformers' classes have their output embedding: at the end of a path, or alone.
OUTPUT_HEADS = (
    "lm_head",
    "lm_head.decoder",
    "lm_head.out_proj",
    "embed_out",
    "output_projection",
    "generator_lm_head",
    "predictions.decoder",
    "pred_layer.proj",
    "lm_loss",
    "proj_out",
    # Of remote code: Phi's first, and Molmo's.
    "lm_head.linear",
    "transformer.ff_out",
)
# DeBERTa's newer head multiplies with the input embedding, and calls its output embedding what stands before that
# (modeling_deberta_v2.py, DebertaV2ForMaskedLM.get_output_embeddings): it has no row for a token.
HEAD_WITHOUT_ROWS = "lm_predictions.lm_head.dense"
# Heads whose classes do not say that they are the output embedding, so that all linear layers are with them: the path,
# and the module beside it by which the class is known. DeepSeek-VL2's, MiniMind's, those of Janus and the first
# DeepSeek-VL, and FSMT's, which says that it is the decoder's input embedding (modeling_fsmt.py,
# FSMTForConditionalGeneration.get_output_embeddings).
_UNSAID_HEADS = (
    ("language.lm_head", "language.model.embed_tokens"),
    ("output", "tok_embeddings"),
    ("language_model.lm_head", "vision_model.vision_tower.patch_embed.proj"),
    ("language_model.lm_head", "vision_model.vision_tower_high.patch_embed.proj"),
    ("decoder.output_projection", "decoder.embed_tokens"),
    ("model.decoder.output_projection", "model.decoder.embed_tokens"),
)
# Some of them stand in the decoder of two models that are composed, too.
_COMPOSED_HEADS = ("decoder.head", "decoder.decoder", "decoder.output")
_LONE_OUTPUT_HEADS = ("head", "decoder", "vocab_projector", "output", HEAD_WITHOUT_ROWS, *_COMPOSED_HEADS)

_FIRST_INDEX = re.compile(r".*?\.[^.]*\.(?P<index>\d+)\.")
_LAST_INDEX = re.compile(r".*\.[^.]*\.(?P<index>\d+)\.")
_INDEX = re.compile(r"\.(\d+)\.")

V = TypeVar("V")


def _ends_with_any(path: str, names: frozenset[str]) -> bool:
    """Whether ``path`` is one of the names or ends with ``.name``."""
    # The last part is what most configs name, and of a hundred thousand paths most are looked at once.
    start = path.rfind(".")
    while start >= 0:
        if path[start + 1 :] in names:
            return True
        start = path.rfind(".", 0, start)
    return path in names


@frozen
class Targeting:
    """The config's targeting, ready to be asked about module paths.

    Attributes:
        saved_modules: ``modules_to_save``, with the heads that PEFT adds for the task.
    """

    saved_modules: tuple[str, ...]
    _excluded: Callable[[str], bool]
    _included: Callable[[str], bool]

    def __call__(self, path: str) -> bool:
        """Whether PEFT puts LoRA on the module at ``path``."""
        return self._included(path) and not self._excluded(path)


def targeting(
    config: LoraConfig, modules: Modules, default_targets: tuple[str, ...] | str, *, last_index: bool = False
) -> Targeting:
    """Return what the config targets in this base model. Raises PatternError where a pattern is not evaluated.

    ``last_index``: see ``Era``.
    """
    return Targeting(saved_modules(config), _excluder(config), _includer(config, modules, default_targets, last_index))


def saved_modules(config: LoraConfig) -> tuple[str, ...]:
    """Return ``modules_to_save`` with the heads that PEFT adds for the task."""
    heads = HEADS_OF_TASKS.get(config.task_type or "", ())
    return (*config.modules_to_save, *(name for name in heads if name not in config.modules_to_save))


def _excluder(config: LoraConfig) -> Callable[[str], bool]:
    tests: list[Callable[[str], bool]] = []
    if isinstance(config.exclude_modules, str):
        if config.exclude_modules:
            tests.append(full_matcher(config.exclude_modules))
    elif config.exclude_modules:
        names = frozenset(config.exclude_modules)
        tests.append(lambda path: _ends_with_any(path, names))
    # Of the heads, PEFT adds those of a sequence classifier only before it puts LoRA on the modules.
    saved = saved_modules(config) if config.task_type == "SEQ_CLS" else config.modules_to_save
    # PEFT puts the name into a pattern unescaped: it matches the module and everything below it.
    plain = PlainPatterns((0, name) for name in saved if is_plain(name))
    others = within_budget([name for name in saved if not is_plain(name)])
    if saved:
        tests.append(lambda path: any(plain.matches(part) for part in _beginnings(path)))
        tests += [full_matcher(rf"(^|.*\.){name}($|\..*)") for name in others]
    return (lambda path: any(test(path) for test in tests)) if tests else _never


def _never(_: str) -> bool:
    return False


def _beginnings(path: str) -> Iterator[str]:
    """The path, and the paths of all modules that hold it."""
    end = len(path)
    while end > 0:
        yield path[:end]
        end = path.rfind(".", 0, end)


def _includer(
    config: LoraConfig, modules: Modules, default_targets: tuple[str, ...] | str, last_index: bool
) -> Callable[[str], bool]:
    targets = config.target_modules
    if targets is None and config.target_parameters is None:
        targets = default_targets
    if isinstance(targets, str):
        if targets.lower() == ALL_LINEAR:
            head = output_head(modules)
            return lambda path: modules[path].kind in ("linear", "conv1d") and path != head
        return full_matcher(targets)
    if targets is None:
        return lambda _: False
    names = frozenset(targets)
    if config.layers_to_transform is None:
        return lambda path: _ends_with_any(path, names)
    layers = frozenset(config.layers_to_transform)
    index_of = _layer_finder(config.layers_pattern, last_index)
    # A module named exactly is targeted whatever its layer.
    return lambda path: path in names or (_ends_with_any(path, names) and index_of(path) in layers)


def _layer_finder(layer_patterns: tuple[str, ...], last_index: bool) -> Callable[[str], int | None]:
    if not layer_patterns:
        numbered = _LAST_INDEX if last_index else _FIRST_INDEX

        def index_of(path: str) -> int | None:
            match = numbered.match(path)
            return int(match["index"]) if match else None

        return index_of
    within_budget([pattern for pattern in layer_patterns if not is_plain(pattern)])
    matchers = [_layer_matcher(pattern) for pattern in layer_patterns]

    def index_behind_pattern(path: str) -> int | None:
        indices = list(_INDEX.finditer(path))
        for matches in matchers:
            for match in reversed(indices) if last_index else indices:
                if matches(path[: match.start()]):
                    return int(match[1])
        return None

    return index_behind_pattern


def _layer_matcher(pattern: str) -> Callable[[str], bool]:
    if is_plain(pattern):
        return PlainPatterns([(0, pattern)]).matches
    return full_matcher(rf"(?:^|.*?\.){pattern}")


class PatternLookup(Generic[V]):
    """What gives a module its rank or alpha: the first pattern in the file's order that matches wins.

    Attributes:
        unused: the patterns that have won nowhere so far.
    """

    def __init__(self, patterns: Mapping[str, V], default: V) -> None:
        """Raises PatternError where a pattern is not evaluated."""
        self._default = default
        self._patterns = tuple(patterns.items())
        numbered = tuple(enumerate(patterns))
        self._plain = PlainPatterns((number, pattern) for number, pattern in numbered if is_plain(pattern))
        others = [(number, pattern) for number, pattern in numbered if not is_plain(pattern)]
        within_budget([pattern for _, pattern in others])
        self._others = [(number, full_matcher(rf"(.*\.)?({pattern})$")) for number, pattern in others]
        self.unused = set(patterns)

    def __call__(self, path: str) -> V:
        """Return the module's value."""
        if not self._patterns:
            return self._default
        number = min(self._matching(path), default=None)
        if number is None:
            return self._default
        pattern, value = self._patterns[number]
        self.unused.discard(pattern)
        return value

    def all_of(self, path: str) -> list[V]:
        """Return the values of every pattern that matches the module, the winner first."""
        return [self._patterns[number][1] for number in sorted(self._matching(path))]

    def _matching(self, path: str) -> Iterator[int]:
        yield from self._plain.numbers(path)
        yield from (number for number, matches in self._others if matches(path))


def output_head(modules: Modules) -> str | None:
    """Return the path of the output embedding, which transformers may tie to the input embedding."""
    names = frozenset(OUTPUT_HEADS)
    found = [path for path in modules if path.endswith(OUTPUT_HEADS) and _ends_with_any(path, names)]
    found += [path for path in _LONE_OUTPUT_HEADS if path in modules]
    found = [path for path in found if not any(path == head and known in modules for head, known in _UNSAID_HEADS)]
    linear = (path for path in found if modules[path].kind == "linear")
    return min(linear, key=lambda path: path.count("."), default=None)


def containers(paths: Iterable[str]) -> frozenset[str]:
    """Return the paths of all modules that hold others."""
    found: set[str] = set()
    for path in paths:
        at = path.rfind(".")
        while at > 0 and (holder := path[:at]) not in found:
            found.add(holder)
            at = path.rfind(".", 0, at)
    return frozenset(found)
