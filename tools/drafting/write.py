"""The source of a definition, from what was seen of a type's models: blocks where they fit, else single layers.

What no expression explains is written with a size called "?", below a comment that starts with ``DRAFT``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from drafting.parts import Found, Seen, candidates
from drafting.scope import INDICES, Key, Scope
from lora_packer.base_model.module import Module

MARK = "# DRAFT:"
UNKNOWN = 's.size("?")'
_LAYERS = "lora_packer.base_model.blocks.layers"
_INDENT = "    "
_SHOWN = 4

Lines = list[str]


class Leaf(NamedTuple):
    """A single layer, or a norm, at every place."""

    kind: str
    name: str
    modules: tuple[Module, ...]


@dataclass
class Writer:
    """Writes what was seen of one scope, and keeps what the source needs around it.

    Attributes:
        imports: (file, name) of ours.
        used: names of lines that the source needs (``Scope.lines``).
        open: what is not explained, a line each.
    """

    scope: Scope
    imports: set[tuple[str, str]] = field(default_factory=set)
    open: Lines = field(default_factory=list)

    def part(self, path: str, seen: Sequence[Seen]) -> Lines:
        """Write what lies below a path, which is source text; "" is the root."""
        loop = self._loop(path, seen)
        if loop is not None:
            return loop
        if path:
            for found in candidates(self.scope, seen):
                everything = all(len(names) == len(one.modules) for names, one in zip(found.covered, seen, strict=True))
                call = self._call(found, path, seen) if everything else None
                if call is not None:
                    return [call]
        return self._by_presence(path, seen)

    def _by_presence(self, path: str, seen: Sequence[Seen]) -> Lines:
        """Write what is always there, and the rest below conditions."""
        groups: dict[tuple[bool, ...], list[str]] = {}
        for name in children(seen):
            groups.setdefault(tuple(has(one, name) for one in seen), []).append(name)
        lines: Lines = []
        for presence, names in groups.items():
            opposite = tuple(not there for there in presence)
            if opposite in groups and list(groups).index(opposite) < list(groups).index(presence):
                continue  # the "else" of an earlier one
            there = [only(one, names) for one, is_there in zip(seen, presence, strict=True) if is_there]
            body = self._present(path, there)
            if all(presence):
                lines += body
                continue
            lines += [*self._condition(path, names, seen, presence), *indented(body)]
            if opposite in groups:
                others = [only(one, groups[opposite]) for one, is_there in zip(seen, opposite, strict=True) if is_there]
                lines += ["else:", *indented(self._present(path, others))]
        return lines

    def _condition(self, path: str, names: Sequence[str], seen: Sequence[Seen], presence: Sequence[bool]) -> Lines:
        wanted = {one.key: there for one, there in zip(seen, presence, strict=True)}
        text = self.scope.condition_for(wanted)
        if text is not None:
            return [f"if {text}:"]
        self.open.append(f"when {_join(path, names[0])} is there")
        share = f"in {sum(presence)} of {len(presence)} places"
        return [f"{MARK} {', '.join(names)}: {share}, and no condition over fields says where", 'if s.flag("?"):']

    def _present(self, path: str, seen: Sequence[Seen]) -> Lines:
        """Write children that are there at every place: blocks, then single layers, then what lies deeper."""
        lines: Lines = []
        while path and seen[0].modules:
            call = None
            for found in candidates(self.scope, seen):
                call = self._call(found, path, seen)
                if call is not None:
                    lines.append(call)
                    seen = [without(one, names) for one, names in zip(seen, found.covered, strict=True)]
                    break
            if call is None:
                break
        leaves: dict[str, list[str]] = {}
        deeper: Lines = []
        for name in children(seen):
            there = [one for one in seen if has(one, name)]  # a block may have taken it at some places
            leaf = leaf_of(name, there)
            if leaf is None:
                deeper += self.part(_join(path, name), [below(one, name) for one in there])
            else:
                leaves.setdefault(self._arguments(leaf, path, there), []).append(name)
        return [*lines, *self._leaf_lines(path, leaves), *deeper]

    def _loop(self, path: str, seen: Sequence[Seen]) -> Lines | None:
        """Write numbered layers, or return None where these are no such."""
        counts = [numbered(one) for one in seen]
        if not path or None in counts or len(set(counts)) == 1:
            return None
        depth = len(seen[0].key.indices)
        if depth >= len(INDICES):
            return None
        text = self.size([count or 0 for count in counts], [one.key for one in seen], f"the number of {path}")
        inside = self.layers(seen)
        index = INDICES[depth]
        name = "path" if depth == 0 else f"path_of_{index}"
        body = self.part(f"{{{name}}}", inside)
        return [
            *self._comments(text),
            f"for {index} in range({text.partition(MARK)[0].strip()}):",
            *indented([f'{name} = f"{path}.{{{index}}}"', *body]),
        ]

    def layers(self, seen: Sequence[Seen]) -> list[Seen]:
        """Return each layer of numbered ones as a place of its own."""
        return [
            Seen(Key(one.key.model, (*one.key.indices, number)), below(one, str(number)).modules)
            for one in seen
            for number in range(numbered(one) or 0)
        ]

    def size(self, values: Sequence[int], keys: Sequence[Key], what: str) -> str:
        """Return the expression of a size, or the unknown one and a note."""
        text = self.scope.size_of(values, keys)
        if text is not None:
            self._import_helpers(text)
            return text
        self.open.append(what)
        shown = ", ".join(map(str, dict.fromkeys(values[:_SHOWN])))
        return f"{UNKNOWN} {MARK} {what} is {shown} in the first configs"

    def _import_helpers(self, text: str) -> None:
        if "patches(" in text:
            self.imports.add(("lora_packer.base_model.blocks.towers", "patches"))

    def _comments(self, *texts: str) -> Lines:
        return [f"{MARK} {note.strip()}" for text in texts for note in text.split(MARK)[1:]]

    def _call(self, found: Found, path: str, seen: Sequence[Seen]) -> str | None:
        """Return the line that yields from a block, or None where one of its sizes has no expression."""
        keys = [one.key for one in seen]
        sizes = [self.scope.size_of(values, keys) for values in found.sizes]
        flags = {
            name: self.scope.condition_for(dict(zip(keys, values, strict=True))) for name, values in found.flags.items()
        }
        if None in sizes or None in flags.values():
            return None
        arguments = [str(argument) for argument in found.part.arguments("s", literal(path), sizes)]
        arguments += [f"{name}={text}" for name, text in flags.items()]
        self.imports.add((found.part.module, found.part.name))
        for text in arguments:
            self._import_helpers(text)
        return f"yield from {found.part.name}({', '.join(arguments)})"

    def whole(self, seen: Sequence[Seen]) -> str | None:
        """Return the block that is all of a model, by name, or None."""
        found = next(iter(candidates(self.scope, seen, whole=True)), None)
        if found is None:
            return None
        self.imports.add((found.part.module, found.part.name))
        return found.part.name

    def _arguments(self, leaf: Leaf, path: str, seen: Sequence[Seen]) -> str:
        """Return what a single layer is made with, as a key that is the same for layers that are alike."""
        keys, shapes = [one.key for one in seen], [module.weight_shape for module in leaf.modules]
        place = _join(path, leaf.name)
        if len({len(shape) for shape in shapes}) > 1:
            self.open.append(f"the shape of {place}")
            return f"{leaf.kind}|{UNKNOWN} {MARK} {place} has shapes of several lengths"
        sizes = [
            self.size([shape[at] for shape in shapes], keys, f"size {at} of {place}") for at in range(len(shapes[0]))
        ]
        options = self._options(leaf, keys, place)
        if leaf.kind == "depthwise":
            sizes.pop(1)
        return f"{leaf.kind}|{';'.join(sizes)}|{options}"

    def _options(self, leaf: Leaf, keys: Sequence[Key], place: str) -> str:
        if leaf.kind not in ("linear", "conv", "depthwise"):
            return ""
        biases = [module.bias for module in leaf.modules]
        text = self.scope.condition_for(dict(zip(keys, biases, strict=True)))
        if text is None:
            self.open.append(f"the bias of {place}")
            text = f's.flag("?") {MARK} when {place} has a bias'
        groups = ""
        if leaf.kind == "conv" and any(module.groups != 1 for module in leaf.modules):
            size = self.size([module.groups for module in leaf.modules], keys, f"the groups of {place}")
            groups = f", groups={size}"
        return (f", bias={text}" if text != "False" or leaf.kind == "conv" else "") + groups

    def _leaf_lines(self, path: str, leaves: Mapping[str, Sequence[str]]) -> Lines:
        lines: Lines = []
        for key, names in leaves.items():
            kind, sizes, options = [*key.split("|", 2), ""][:3]
            notes = self._comments(*sizes.split(";"), options)
            shape = [text.partition(MARK)[0].strip() for text in sizes.split(";")]
            options = re.sub(rf" {MARK}[^,)]*", "", options)
            lines += [*notes, *self._leaf_calls(kind, path, shape, names, options)]
        return lines

    def _leaf_calls(
        self, kind: str, path: str, shape: Sequence[str], names: Sequence[str], options: str
    ) -> Iterator[str]:
        if kind == "transposed":
            self.imports.add(("lora_packer.base_model.module", "Module"))
            for name in names:
                yield f'yield {literal(_join(path, name))}, Module("parameter", ({", ".join(shape)}), transposed=True)'
            return
        self.imports.add((_LAYERS, kind))
        size = f"({', '.join(shape)}{',' if len(shape) == 1 else ''})" if kind == "conv" else ", ".join(shape)
        if kind in ("linear", "norm", "layer_norm") and path and len(names) > 1:
            listed = "".join(f', "{name}"' for name in names)
            yield f"yield from {kind}({literal(path)}, {size}{listed}{options})"
            return
        for name in names:
            yield f"yield from {kind}({literal(_join(path, name))}, {size}{options})"


def children(seen: Sequence[Seen]) -> list[str]:
    """Return the names right below, in the order of the models."""
    return list(dict.fromkeys(path.partition(".")[0] for one in seen for path in one.modules))


def has(one: Seen, name: str) -> bool:
    """Whether there is something of this name right below."""
    return any(path == name or path.startswith(f"{name}.") for path in one.modules)


def only(one: Seen, names: Sequence[str]) -> Seen:
    """Return the same without its other children."""
    kept = frozenset(names)
    return Seen(one.key, {path: module for path, module in one.modules.items() if path.partition(".")[0] in kept})


def without(one: Seen, paths: frozenset[str]) -> Seen:
    """Return the same without these modules."""
    return Seen(one.key, {path: module for path, module in one.modules.items() if path not in paths})


def below(one: Seen, name: str) -> Seen:
    """Return what lies below a child."""
    before = f"{name}."
    return Seen(
        one.key, {path.removeprefix(before): module for path, module in one.modules.items() if path.startswith(before)}
    )


def numbered(one: Seen) -> int | None:
    """Return how many numbered children there are, or None where they are not 0, 1, 2 and on."""
    names = children([one])
    return len(names) if names == [str(number) for number in range(len(names))] else None


def leaf_of(name: str, seen: Sequence[Seen]) -> Leaf | None:
    """Return a child that is a single layer or a norm at every place, or None."""
    modules = [one.modules.get(name) for one in seen]
    if all(module is not None for module in modules):
        found = tuple(module for module in modules if module is not None)
        kinds = {_kind(module) for module in found}
        kind = kinds.pop() if len(kinds) == 1 else "conv"
        return Leaf(kind, name, found)
    return _norm_of(name, seen)


def _kind(module: Module) -> str:
    if module.kind == "parameter" and module.transposed:
        return "transposed"
    depthwise = module.kind == "conv" and module.groups == module.weight_shape[0] > 1 == module.weight_shape[1]
    return "depthwise" if depthwise else module.kind


def _norm_of(name: str, seen: Sequence[Seen]) -> Leaf | None:
    found = []
    for one in seen:
        inside = below(one, name).modules
        weight, bias = inside.get("weight"), inside.get("bias")
        if weight is None or weight.kind != "parameter" or len(weight.weight_shape) != 1:
            return None
        if len(inside) != 1 + (bias is not None) or bias not in (None, weight):
            return None
        found.append((weight, bias is not None))
    biased = {with_bias for _, with_bias in found}
    if len(biased) != 1:
        return None
    return Leaf("layer_norm" if biased.pop() else "norm", name, tuple(weight for weight, _ in found))


def indented(lines: Sequence[str]) -> Lines:
    """Return the lines one level deeper; an empty body passes."""
    return [f"{_INDENT}{line}" if line else "" for line in lines] or [f"{_INDENT}pass"]


def literal(path: str) -> str:
    """Return a path as a string of the source."""
    if re.fullmatch(r"\{\w+\}", path):
        return path[1:-1]
    return f'f"{path}"' if "{" in path else f'"{path}"'


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
