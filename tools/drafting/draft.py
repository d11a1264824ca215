"""A definition's first version: another type's, a decoder in its frame, or a language model with towers beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from unittest import mock

from drafting.frame import decoder, function, heads
from drafting.parts import Seen
from drafting.recorded import Recorded, at, variable_of
from drafting.scope import Raw
from drafting.write import MARK, Lines, Writer, children, only, without
from lora_packer.base_model import ARCHITECTURES
from lora_packer.base_model import settings as settings_module
from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture, Like, resolved
from lora_packer.base_model.blocks.composite import text_tower
from lora_packer.base_model.models.vision_towers import TOWERS
from lora_packer.base_model.module import Modules
from lora_packer.base_model.settings import Settings
from lora_packer.errors import LoraPackerError

_ARCHITECTURE = "lora_packer.base_model.architecture"
_COMPOSITE = "lora_packer.base_model.blocks.composite"
_FRAMES = "lora_packer.base_model.blocks.frames"
_MODULE = "lora_packer.base_model.module"
_PROJECTORS = "lora_packer.base_model.blocks.projectors"
_SETTINGS = "lora_packer.base_model.settings"
_VISION = "lora_packer.base_model.models.vision_towers"
# What has fewer modules than this and no layers joins towers, and is none itself.
_SMALLEST_TOWER = 12
_ROOT = ""


class Drafted(NamedTuple):
    """A first version.

    Attributes:
        source: of a file of definitions.
        open: what is not explained, a line each.
    """

    source: str
    open: list[str]


class Tower(NamedTuple):
    """A part of a model that has a config of its own: where it lies, and what the source says of it."""

    path: str
    nested: str
    part: str


def draft(recorded: Recorded, known: Mapping[str, Architecture] = ARCHITECTURES) -> Drafted:
    """Return the first version of a type's definition."""
    same = same_as(recorded, known)
    writer = Writer(recorded.scope(), {(_ARCHITECTURE, "Architectures")})
    if same is not None:
        writer.imports.add((_ARCHITECTURE, "like"))
        targets = known[same].default_targets
        other = f', {{"default_targets": {recorded.targets!r}}}' if recorded.targets != targets else ""
        return Drafted(_file(recorded, writer, [], f'like("{same}"{other})'), [])
    lines, entry = _composite(recorded, writer) if recorded.text else _alone(recorded, writer)
    return Drafted(_file(recorded, writer, lines, entry), writer.open)


def same_as(recorded: Recorded, known: Mapping[str, Architecture]) -> str | None:
    """Return a type that is built in the same way from the same fields, the one of the likest name, or None."""
    first = recorded.model_type.replace("-", "_").partition("_")[0]
    names = sorted(known, key=lambda name: (not name.startswith(first), name))
    return next((name for name in names if name != recorded.model_type and _is_same(recorded, known[name])), None)


def _is_same(recorded: Recorded, other: Architecture) -> bool:
    if (other.text_config is not None) != (recorded.text is not None):
        return False
    build = other.dialects[TRANSFORMERS_5]
    for config, classes in zip(recorded.configs, recorded.classes, strict=True):
        for head, modules in classes.items():
            if _modules(build, config, head) != modules:
                return False
    return True


def _modules(build: Any, config: Raw, head: str) -> Modules | None:
    """What a definition yields for a config that says everything; None where it is not for such a one."""
    asked = "causal-lm" if head == "masked-lm" else head
    try:
        with mock.patch.object(settings_module, "recorded", return_value={}):
            return dict(build(Settings(config, {}), asked))
    except (LoraPackerError, ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None


def _alone(recorded: Recorded, writer: Writer) -> tuple[Lines, str]:
    """A model with one config."""
    lines = decoder(f"_{recorded.name}", writer, recorded.bare())
    own, arguments = heads(recorded, writer)
    writer.imports |= {(_ARCHITECTURE, "declared"), (_FRAMES, "framed")}
    build = f"framed({', '.join([f'_{recorded.name}', *arguments])})"
    names = _read_aliases(recorded.aliases.get(_ROOT, {}), [*lines, *own])
    if names:
        writer.imports.add((_FRAMES, "aliased"))
        build = f"aliased({build}, {json.dumps(names)})"
    options = []
    if recorded.targets:
        options.append(f"targets={recorded.targets!r}")
    if recorded.input_embedding != "embed_tokens":
        options.append(f'input_embedding="{recorded.input_embedding}"')
    if recorded.encoder_decoder:
        options.append("encoder_decoder=True")
    return [*lines, "", "", *own], f"declared({', '.join([build, *options])})"


def _read_aliases(aliases: Mapping[str, str], lines: Sequence[str]) -> dict[str, str]:
    """The other names of the fields that the source reads."""
    text = "\n".join(lines)
    words = {"hidden_size": ".hidden", "num_hidden_layers": ".layers", "num_attention_heads": ".heads"}
    words |= {"intermediate_size": ".inner", "vocab_size": ".vocab"}
    return {
        alias: name for alias, name in aliases.items() if f'"{name}"' in text or words.get(name, f'"{name}"') in text
    }


def _composite(recorded: Recorded, writer: Writer) -> tuple[Lines, str]:
    """A language model with towers beside it."""
    text = recorded.text or ""
    seen = recorded.bare()
    lines: Lines = []
    language, text_source, before = _language(recorded, writer, seen)
    lines += before
    rest = [without(one, frozenset(path for path in one.modules if path.startswith(f"{language}."))) for one in seen]
    towers: list[Tower] = []
    for nested in recorded.nested:
        found = None if nested == text else _tower(recorded, writer, nested, rest)
        if found is not None:
            tower, before = found
            towers.append(tower)
            lines += before
            rest = [
                without(one, frozenset(path for path in one.modules if path.startswith(f"{tower.path}.")))
                for one in rest
            ]
    beside, before = _beside(recorded, writer, towers, rest)
    lines += before
    writer.imports |= {(_COMPOSITE, "composite"), (_COMPOSITE, "with_towers")}
    named = "" if language == "language_model" else f', language="{language}"'
    options = []
    if recorded.targets:
        options.append(f"targets={recorded.targets!r}")
    if recorded.input_embedding != "embed_tokens":
        options.append(f'input_embedding="{recorded.input_embedding}"')
    build = f"with_towers({text_source}, {beside}{named})"
    return lines, f"composite({', '.join([build, *options])})"


def _language(recorded: Recorded, writer: Writer, seen: Sequence[Seen]) -> tuple[str, str, Lines]:
    """Return where the language model lies, its part, and what has to be written before it."""
    text = recorded.text or ""
    kind = recorded.nested[text]
    tower = text_tower(kind) if kind in ARCHITECTURES else None
    prefixes = list(_prefixes(seen[0]))
    if tower is not None:
        for prefix in prefixes:
            below = at(seen, prefix)
            if all(_built(tower.modules, recorded.configs[one.key.model][text]) == one.modules for one in below):
                writer.imports.add((_COMPOSITE, "text_part"))
                return prefix, f'text_part("{kind}")', []
    tokens = next((path for path in seen[0].modules if path.endswith(".embed_tokens")), "language_model.embed_tokens")
    prefix = tokens.rpartition(".")[0]
    name = f"_{kind.replace('-', '_').replace('.', '_')}"
    own = Writer(recorded.scope_of(text), writer.imports, writer.open)
    lines = decoder(name, own, at(seen, prefix))
    writer.imports |= {(_COMPOSITE, "fixed"), (_COMPOSITE, "Tower")}
    return prefix, f'fixed("{text}", Tower("{kind}", {name}))', [*lines, "", ""]


def _prefixes(one: Seen) -> Iterator[str]:
    """Yield the paths that may be a part's, from the root down to the second level."""
    for depth in (1, 2):
        yield from dict.fromkeys(".".join(path.split(".")[:depth]) for path in one.modules if path.count(".") >= depth)


def _built(modules: Any, config: Raw) -> Modules | None:
    return _modules(lambda s, _head: modules(s), config, "none")


def _tower(recorded: Recorded, writer: Writer, nested: str, seen: Sequence[Seen]) -> tuple[Tower, Lines] | None:
    """Return the tower that a nested config describes, and what has to be written before it; None without one."""
    kind = recorded.nested[nested]
    places = [prefix for prefix in _prefixes(seen[0]) if all(one.modules for one in at(seen, prefix))]
    for path in places:
        known = TOWERS.get(kind)
        below = at(seen, path)
        configs = [recorded.configs[one.key.model].get(nested) or {} for one in below]
        if known is not None and nested == "vision_config":
            built = (_built(known.modules, config) == one.modules for config, one in zip(configs, below, strict=True))
            if all(built):
                writer.imports.add((_VISION, "vision_config"))
                return Tower(path, nested, f'vision_config("{kind}")'), []
        own = Writer(recorded.scope_of(nested), writer.imports, writer.open)
        whole = own.whole(below)
        if whole is not None:
            writer.imports |= {(_COMPOSITE, "fixed"), (_COMPOSITE, "Tower")}
            return Tower(path, nested, f'fixed("{nested}", Tower("{kind}", {whole}))'), []
    return _drafted_tower(recorded, writer, nested, seen)


def _drafted_tower(recorded: Recorded, writer: Writer, nested: str, seen: Sequence[Seen]) -> tuple[Tower, Lines] | None:
    """The child that is best explained by this nested config alone."""
    kind = recorded.nested[nested]
    name = f"_{kind.replace('-', '_').replace('.', '_')}"
    best: tuple[float, str, Writer, Lines] | None = None
    for path in (path for path in children(seen) if all(one.modules for one in at(seen, path))):
        below = at(seen, path)
        if len(below[0].modules) < _SMALLEST_TOWER:
            continue
        own = Writer(recorded.scope_of(nested))
        lines = function(name, "s: Settings", own, own.part("", below))
        share = len(own.open) / len(lines)
        if share < 0.25 and (best is None or share < best[0]):
            best = share, path, own, lines
    if best is None:
        return None
    _, path, own, lines = best
    writer.imports |= own.imports
    writer.open += own.open
    writer.imports |= {(_COMPOSITE, "fixed"), (_COMPOSITE, "Tower")}
    return Tower(path, nested, f'fixed("{nested}", Tower("{kind}", {name}))'), [*lines, "", ""]


def _beside(recorded: Recorded, writer: Writer, towers: Sequence[Tower], rest: Sequence[Seen]) -> tuple[str, Lines]:
    """Return what stands beside the language model, and what has to be written before it."""
    names = list(dict.fromkeys([*(tower.nested for tower in towers), recorded.text or ""]))
    own = Writer(recorded.scope(*names), writer.imports, writer.open)
    left = children(rest)
    joined = own.part("", [only(one, left) for one in rest]) if left else []
    if len(towers) == 1 and joined and [tower.nested for tower in towers] == ["vision_config"]:
        tower = towers[0]
        name = f"_{recorded.name}_projector"
        lines = function(name, "s: Settings, vision: Settings, text: Settings", own, joined)
        writer.imports.add((_PROJECTORS, "seeing"))
        place = "" if tower.path == "vision_tower" else f', "{tower.path}"'
        return f"seeing({tower.part}, {name}{place})", [*lines, "", ""]
    body: Lines = []
    for tower in towers:
        variable = variable_of(tower.nested)
        body += [f"{variable}, {variable}_modules = _{recorded.name.upper()}_{variable.upper()}.of(s)"]
        body += [f'yield from below("{tower.path}", {variable}_modules({variable}))']
        writer.imports.add((_COMPOSITE, "below"))
    name = f"_{recorded.name}_beside"
    lines = function(name, "s: Settings, text: Settings", own, [*body, *joined])
    parts = [f"_{recorded.name.upper()}_{variable_of(tower.nested).upper()} = {tower.part}" for tower in towers]
    return name, [*parts, "", "", *lines, "", ""]


def _file(recorded: Recorded, writer: Writer, lines: Sequence[str], entry: str) -> str:
    """Return the source of a file with one definition."""
    body = "\n".join(lines).strip("\n")
    if re.search(r"\bSettings\b", body):
        writer.imports |= {(_SETTINGS, "Settings"), (_MODULE, "Named")}
    unexplained = [f"{MARK} {note}" for note in writer.open]
    parts = [
        f'"""First version of {recorded.model_type}\'s definition, by tools/draft.py."""\n',
        "from __future__ import annotations\n",
        _imports(writer, body + entry),
        *(["\n".join(unexplained) + "\n"] if unexplained else []),
        *([f"\n{body}\n\n"] if body else []),
        f'ARCHITECTURES: Architectures = {{\n    "{recorded.model_type}": {entry},\n}}\n',
    ]
    return "\n".join(parts)


def _imports(writer: Writer, text: str) -> str:
    """Return the imports that the text needs, in ruff's order."""
    by_module: dict[str, set[str]] = {}
    for module, name in writer.imports:
        if name == "Architectures" or re.search(rf"\b{name}\b", text):
            by_module.setdefault(module, set()).add(name)
    return "".join(
        f"from {module} import {', '.join(sorted(names, key=_import_order))}\n"
        for module, names in sorted(by_module.items())
    )


def _import_order(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def differences(drafted: Drafted, recorded: Recorded) -> Iterator[str]:
    """Yield the first difference under each head between what the source yields and what was recorded."""
    space: dict[str, Any] = {"__name__": "drafted"}
    exec(compile(drafted.source, "draft", "exec"), space)
    entry: Architecture | Like = space["ARCHITECTURES"][recorded.model_type]
    build = resolved(recorded.model_type, entry, ARCHITECTURES.__getitem__).dialects[TRANSFORMERS_5]
    for head in recorded.heads:
        for config, classes in zip(recorded.configs, recorded.classes, strict=True):
            ours = _modules(build, config, head)
            theirs = classes.get(head)
            if theirs is None or ours == theirs:
                continue
            both = ours or {}
            paths = [path for path in dict.fromkeys([*theirs, *both]) if theirs.get(path) != both.get(path)]
            yield f"{head}: {len(paths)} of {len(theirs)} modules, first {paths[0]}: {theirs.get(paths[0])}"
            break
