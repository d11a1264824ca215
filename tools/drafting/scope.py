"""What the source of a definition can say of the configs around it: sizes, flags, kinds of layers.

Each comes as source text and as its value in every config, for ``solve`` and ``decide`` to choose from. A text that
needs a line before it, such as ``kv_heads``, has that line in ``Scope.lines``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from drafting.conditions import Condition, condition, decide
from drafting.solve import Term, solve
from lora_packer.base_model.blocks import experts
from lora_packer.base_model.blocks.attention import head_sizes
from lora_packer.base_model.settings import Settings
from lora_packer.errors import LoraPackerError

Raw = Mapping[str, Any]
# What a number of a layer is called, from outside inwards.
INDICES = ("index", "inner", "third")
WORDS = {
    "hidden_size": "hidden",
    "intermediate_size": "inner",
    "num_attention_heads": "heads",
    "num_hidden_layers": "layers",
    "vocab_size": "vocab",
}
# What a condition may compare the number of a layer with: no model's layers come in longer turns.
_LONGEST_TURN = 64
_NOT_SIZES = frozenset({"pad_token_id", "bos_token_id", "eos_token_id", "transformers_version"})
# Which layers are sparse, as known families say it: what the source calls it, how it is made, what makes it.
_TURNS: Mapping[str, tuple[str, Callable[[Settings], Callable[[int], object]]]] = {
    "by_first_dense": ("first_dense(s)", experts.first_dense),
    "by_frequency": ("sparse_layers(s)", experts.sparse_layers),
    "by_dense_before": ("dense_before(s)", experts.dense_before),
    "by_list": ("sparse_after(s, 0)", partial(experts.sparse_after, dense=0)),
    "sparse": (
        'qwen_is_sparse(s, s.count("num_experts"))',
        lambda s: experts.qwen_is_sparse(s, s.count("num_experts")),
    ),
}


class Key(NamedTuple):
    """Where something was seen: in which model, and in which layer of layers."""

    model: int
    indices: tuple[int, ...] = ()


class Missing(dict[str, Any]):
    """No defaults; notes which fields were asked for and are not there."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        """Note the field."""
        self.asked.add(name)
        return default


@dataclass(frozen=True)
class Scope:
    """The configs of every model, by the variable that the source has for them.

    Attributes:
        configs: variable -> a config for each model, as a file would have it.
        resolved: the same as transformers holds it, with the fields that it derives.
        lines: name -> the line that makes it, for what the texts need.
        labels: whether sizes may be numbers of labels, as in the heads.
    """

    configs: Mapping[str, Sequence[Raw]]
    resolved: Mapping[str, Sequence[Raw]] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)
    labels: bool = False

    def settings(self, model: int, variable: str = "s") -> Settings:
        """Return a model's config with types."""
        return Settings(self.configs[variable][model], {})

    def terms(self, keys: Sequence[Key]) -> list[Term]:
        """Return what sizes can be made of, the likeliest first."""
        labels = [self.settings(key.model).labels() for key in keys] if self.labels else []
        counted = [Term("s.labels()", tuple(labels))] if self.labels else []
        return [*counted, *(term for variable in self.configs for term in self._terms_of(variable, keys))]

    def size_of(self, values: Sequence[int], keys: Sequence[Key]) -> str | None:
        """Return the expression that has this value at each key, or None."""
        return solve(values, self.terms(keys))

    def condition_for(self, wanted: Mapping[Key, bool]) -> str | None:
        """Return the condition that holds where it is wanted, or None."""
        keys = list(wanted)
        return decide([wanted[key] for key in keys], list(self.conditions(keys)))

    def _terms_of(self, variable: str, keys: Sequence[Key]) -> Iterator[Term]:
        configs = [self.configs[variable][key.model] for key in keys]
        names = [*WORDS, *sorted({name for config in configs for name in config} - WORDS.keys() - _NOT_SIZES)]
        words = [term for name in WORDS for term in self._of_field(variable, name, configs, keys)]
        others = [term for name in names[len(WORDS) :] for term in self._of_field(variable, name, configs, keys)]
        yield from words
        yield from self._heads(variable, configs)
        yield from others
        yield from self._derived(variable, names, configs, keys, [*words, *others])
        yield from _patches(variable, configs)
        yield from _scaled(variable, configs)

    def _of_field(self, variable: str, name: str, configs: Sequence[Raw], keys: Sequence[Key]) -> Iterator[Term]:
        values = [config.get(name) for config in configs]
        if all(type(value) is int and value >= 0 for value in values):
            least: Any = min(values)  # type: ignore[type-var]
            asked = f"{variable}.{WORDS[name]}" if name in WORDS else f'{variable}.size("{name}")'
            yield Term(asked if least else f'{variable}.count("{name}")', tuple(values))  # type: ignore[arg-type]
        elif all(value is None or (type(value) is int and value >= 0) for value in values) and any(values):
            yield Term(f'{variable}.count("{name}")', tuple(value or 0 for value in values))
        elif all(isinstance(value, list) for value in values) and values:
            yield from _of_lists(variable, name, values, keys)  # type: ignore[arg-type]

    def _heads(self, variable: str, configs: Sequence[Raw]) -> Iterator[Term]:
        if any(type(config.get(name)) is not int for config in configs for name in ("hidden_size", *_HEADS)):
            return
        try:
            sizes = [head_sizes(Settings(config, {})) for config in configs]
        except LoraPackerError:
            return
        if variable == "s":
            self.lines["heads"] = self.lines["kv_heads"] = self.lines["head_dim"] = (
                "heads, kv_heads, head_dim = head_sizes(s)"
            )
        for at, name in ((1, "kv_heads"), (2, "head_dim")):
            text = name if variable == "s" else f"head_sizes({variable})[{at}]"
            yield Term(text, tuple(size[at] for size in sizes))

    def _derived(
        self, variable: str, names: Sequence[str], configs: Sequence[Raw], keys: Sequence[Key], plain: Sequence[Term]
    ) -> Iterator[Term]:
        """Fields that are null in some configs, where transformers derives them from others."""
        resolved = [self.resolved.get(variable, self.configs[variable])[key.model] for key in keys]
        for name in names:
            values = [config.get(name) for config in configs]
            whole = [config.get(name) for config in resolved]
            if None not in values or any(type(value) is not int or value < 1 for value in whole):
                continue
            absent = [at for at, value in enumerate(values) if value is None]
            if any(values[at] not in (None, whole[at]) for at in range(len(values))):
                continue
            there = [Term(term.text, tuple(term.values[at] for at in absent), term.binding) for term in plain]
            text = solve([whole[at] for at in absent], there)  # type: ignore[misc]
            if text is not None:
                yield Term(f'({variable}.optional_size("{name}") or {text})', tuple(whole))  # type: ignore[arg-type]

    def conditions(self, keys: Sequence[Key]) -> Iterator[Condition]:
        """Yield what may decide whether something is there, the likeliest first."""
        for depth in reversed(range(len(keys[0].indices))):
            yield from self._of_layers(keys, depth)
        for variable in self.configs:
            configs = [self.configs[variable][key.model] for key in keys]
            for name in sorted({name for config in configs for name in config}):
                yield from _of_values(variable, name, [config.get(name) for config in configs])
        for depth in reversed(range(len(keys[0].indices))):
            yield from self._of_turns(keys, depth)
        terms = self.terms(keys)
        if terms:
            first = terms[0]
            for term in terms[1:]:
                differ = [one != other for one, other in zip(term.values, first.values, strict=True)]
                yield condition(f"{term.text} != {first.text}", differ, f"{term.text} == {first.text}")

    def _of_layers(self, keys: Sequence[Key], depth: int) -> Iterator[Condition]:
        """What configs list of their layers."""
        index, numbers = INDICES[depth], [key.indices[depth] for key in keys]
        yield from self._known_turns(keys, depth)
        for variable, all_configs in self.configs.items():
            configs = [all_configs[key.model] for key in keys]
            resolved = [self.resolved.get(variable, all_configs)[key.model] for key in keys]
            for name in sorted({name for config in resolved for name in config}):
                listed = [config.get(name) for config in resolved]
                if all(_lists_kinds(value, at) for value, at in zip(listed, numbers, strict=True)):
                    kinds = [value[at] for value, at in zip(listed, numbers, strict=True)]  # type: ignore[index]
                    local = self._kinds_line(variable, name, keys, depth)
                    for kind in sorted(set(kinds)):
                        text = f"{local}({index})"
                        yield condition(f'{text} == "{kind}"', [it == kind for it in kinds], f'{text} != "{kind}"')
                given = [config.get(name) for config in configs]
                if any(given) and all(value is None or _is_ints(value) for value in given):
                    inside = [at in (value or ()) for value, at in zip(given, numbers, strict=True)]
                    text = f'{variable}.indices("{name}")'
                    yield condition(f"{index} in {text}", inside, f"{index} not in {text}")

    def _known_turns(self, keys: Sequence[Key], depth: int) -> Iterator[Condition]:
        if "s" not in self.configs:
            return
        for local, (made, make) in _TURNS.items():
            missing = Missing()
            try:
                by_model = {
                    model: make(Settings(self.configs["s"][model], missing)) for model in {key.model for key in keys}
                }
                answers = [by_model[key.model](key.indices[depth]) for key in keys]
            except LoraPackerError:
                continue
            if missing.asked:
                continue
            self.lines[local] = f"{local} = {made}"
            text = f"{local}({INDICES[depth]})"
            if isinstance(answers[0], bool):
                yield condition(text, [bool(answer) for answer in answers])
            else:
                yield condition(f'{text} == "sparse"', [it == "sparse" for it in answers], f'{text} != "sparse"')

    def _kinds_line(self, variable: str, name: str, keys: Sequence[Key], depth: int) -> str:
        """Note the line that says what kind a layer is, and return the name that it makes."""
        local = name.removesuffix("s") if name.endswith("types") else f"kind_of_{name}"
        if local in self.lines:
            return local
        given, whole = self.configs[variable], self.resolved.get(variable, self.configs[variable])
        derived = {
            key: whole[key.model][name][key.indices[depth]] for key in keys if given[key.model].get(name) is None
        }
        kinds = sorted(set(derived.values()))
        index = INDICES[depth]
        if len(kinds) == 2:
            wanted = {key: kind == kinds[0] for key, kind in derived.items()}
            turns = [*self._known_turns(list(wanted), depth), *self._of_turns(list(wanted), depth)]
            text = decide(list(wanted.values()), turns)
            rule = f'"{kinds[0]}" if {text} else "{kinds[1]}"' if text else None
        else:
            rule = f'"{kinds[0]}"' if kinds else f'"{self._commonest(variable, name)}"'
        unknown = f'"{(kinds or [""])[0]}"  # DRAFT: which layers are of which kind where {name} is null'
        listed = f'layer_kinds({variable}.names("{name}"), lambda {index if rule and index in rule else "_index"}: '
        self.lines[local] = f"{local} = {listed}{rule})" if rule else f"{local} = {listed}{unknown}\n)"
        return local

    def _commonest(self, variable: str, name: str) -> str:
        kinds = [kind for config in self.configs[variable] for kind in config.get(name) or ()]
        return max(sorted(set(kinds)), key=kinds.count) if kinds else ""

    def _of_turns(self, keys: Sequence[Key], depth: int) -> Iterator[Condition]:
        """The number of a layer against fields and against small numbers."""
        index, numbers = INDICES[depth], [key.indices[depth] for key in keys]
        for variable, all_configs in self.configs.items():
            configs = [all_configs[key.model] for key in keys]
            for name in sorted({name for config in configs for name in config} - _NOT_SIZES):
                values = [config.get(name) or 0 for config in configs]
                if any(type(value) is not int or not 0 <= value <= _LONGEST_TURN for value in values):
                    continue
                before = [at < value for at, value in zip(numbers, values, strict=True)]
                text = f'{variable}.count("{name}")'
                yield condition(f"{index} < {text}", before, f"{index} >= {text}")
                if min(values) > 0:
                    text = f"{variable}.{WORDS[name]}" if name in WORDS else f'{variable}.size("{name}")'
                    last = [at == value - 1 for at, value in zip(numbers, values, strict=True)]
                    yield condition(f"{index} == {text} - 1", last, f"{index} != {text} - 1")
                    yield from _turns(index, numbers, text, values)
        for number in range(2, 7):
            yield from _turns(index, numbers, str(number), [number] * len(keys))
        for number in range(1, 4):
            yield condition(f"{index} < {number}", [at < number for at in numbers], f"{index} >= {number}")


_HEADS = ("num_attention_heads",)


def _turns(index: str, numbers: Sequence[int], text: str, values: Sequence[int]) -> Iterator[Condition]:
    for shown, more in ((index, 0), (f"({index} + 1)", 1)):
        due = [(at + more) % value == 0 for at, value in zip(numbers, values, strict=True)]
        yield condition(f"{shown} % {text} == 0", due, f"{shown} % {text} != 0")


def _lists_kinds(value: Any, at: int) -> bool:
    return isinstance(value, list | tuple) and len(value) > at and all(isinstance(item, str) for item in value)


def _is_ints(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(type(item) is int for item in value)


def _of_lists(variable: str, name: str, values: Sequence[list[Any]], keys: Sequence[Key]) -> Iterator[Term]:
    yield Term(f'{variable}.length("{name}")', tuple(map(len, values)))
    if not all(_is_ints(value) and value and min(value) > 0 for value in values):
        return
    for at in (0, -1):
        yield Term(f'{variable}.sizes("{name}")[{at}]', tuple(value[at] for value in values))
    for depth in range(len(keys[0].indices)):
        numbers = [key.indices[depth] for key in keys]
        if all(at < len(value) for at, value in zip(numbers, values, strict=True)):
            listed = tuple(value[at] for at, value in zip(numbers, values, strict=True))
            yield Term(f'{variable}.sizes("{name}")[{INDICES[depth]}]', listed)


def _of_values(variable: str, name: str, values: Sequence[Any]) -> Iterator[Condition]:
    """A flag, a word, a field that is null or zero in some configs."""
    if all(value is None or isinstance(value, bool) for value in values):
        yield condition(f'{variable}.flag("{name}")', [bool(value) for value in values])
    elif all(value is None or isinstance(value, str) for value in values):
        text = f'{variable}.value("{name}")'
        for word in sorted({value for value in values if value is not None}):
            yield condition(f'{text} == "{word}"', [it == word for it in values], f'{text} != "{word}"')
    if None in values:
        text = f'{variable}.value("{name}")'
        yield condition(f"{text} is not None", [value is not None for value in values], f"{text} is None")
    if 0 in values and all(value is None or type(value) is int for value in values):
        text = f'{variable}.count("{name}")'
        yield condition(f"{text} > 0", [bool(value) for value in values], f"{text} == 0")


def _patches(variable: str, configs: Sequence[Raw]) -> Iterator[Term]:
    sides = [(config.get("image_size"), config.get("patch_size")) for config in configs]
    if all(type(image) is int and type(patch) is int and patch for image, patch in sides):
        yield Term(f"patches({variable})", tuple((image // patch) ** 2 for image, patch in sides))  # type: ignore[operator]


def _scaled(variable: str, configs: Sequence[Raw]) -> Iterator[Term]:
    """A width times a field that is no whole number."""
    for name in sorted({name for config in configs for name in config}):
        ratios = [config.get(name) for config in configs]
        if not all(isinstance(ratio, float) and 0 < ratio < 1e6 for ratio in ratios):
            continue
        text = f'{variable}.ratio("{name}")'
        yield Term(f"int(1 / {text})", tuple(int(1 / ratio) for ratio in ratios))  # type: ignore[operator]
        for width, word in WORDS.items():
            sizes = [config.get(width) for config in configs]
            if all(type(size) is int for size in sizes):
                scaled = tuple(int(size * ratio) for size, ratio in zip(sizes, ratios, strict=True))  # type: ignore[operator]
                yield Term(f"int({variable}.{word} * {text})", scaled)
