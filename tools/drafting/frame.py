"""A decoder in its frame: the embedding, numbered layers with norms, the last norm, and the heads around it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from drafting.parts import Seen
from drafting.recorded import Recorded
from drafting.scope import Scope
from drafting.write import MARK, Leaf, Lines, Writer, children, indented, leaf_of, numbered, only, without
from drafting.write import below as below_child
from lora_packer.base_model.architecture import Head
from lora_packer.base_model.blocks.frames import AFTER_BOTH, LAYER_NORMS, TRANSFORMER, head_modules
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import LoraPackerError

_FRAMES = "lora_packer.base_model.blocks.frames"
_LAYERS = "lora_packer.base_model.blocks.layers"
_BLOCK = re.compile(r'yield from (\w+)\(s, f"\{prefix\}\.([\w.]+)"((?:, \w+=s\.flag\("\w+"\))*)\)')
# What heads are made with, as the source says it.
_HEADS: Sequence[tuple[str | None, Callable[[Settings, Head], Named]]] = (
    (None, head_modules),
    ("classified_by_classifier", partial(head_modules, tokens="classifier")),
)


class Framed(NamedTuple):
    """The parts of a frame.

    Attributes:
        tokens: the embedding's name.
        layers: the name of the numbered layers.
        last: the last norm, or None where it has no parameters.
    """

    tokens: str
    layers: str
    last: Leaf | None


def frame_of(scope: Scope, seen: Sequence[Seen]) -> Framed | None:
    """Return the frame that a model stands in, or None where it is another."""
    keys = [one.key for one in seen]
    names = children(seen)
    loops = [name for name in names if _is_layers(name, seen)]
    leaves = {name: leaf_of(name, seen) for name in names if name not in loops}
    tokens = [name for name, leaf in leaves.items() if leaf is not None and leaf.kind == "embedding"]
    if len(loops) != 1 or loops[0] != "layers" or not tokens:
        return None
    counts = [numbered(below_child(one, loops[0])) or 0 for one in seen]
    shapes = [module.weight_shape for module in leaves[tokens[0]].modules]  # type: ignore[union-attr]
    vocab, hidden = (scope.size_of([shape[at] for shape in shapes], keys) for at in (0, 1))
    if scope.size_of(counts, keys) != "s.layers" or (vocab, hidden) != ("s.vocab", "s.hidden"):
        return None
    norms = [
        leaf
        for leaf in leaves.values()
        if leaf is not None
        and leaf.kind in ("norm", "layer_norm")
        and scope.size_of([module.weight_shape[0] for module in leaf.modules], keys) == "s.hidden"
    ]
    return Framed(tokens[0], loops[0], norms[-1] if norms else None)


def _is_layers(name: str, seen: Sequence[Seen]) -> bool:
    counts = [numbered(below_child(one, name)) for one in seen]
    return None not in counts and len(set(counts)) > 1


def decoder(name: str, writer: Writer, seen: Sequence[Seen], doc: str = "") -> Lines:
    """Write a function that yields a model, or a name for the block that is all of it."""
    whole = writer.whole(seen)
    if whole is not None:
        return [f"{name} = {whole}"]
    framed = frame_of(writer.scope, seen)
    if framed is None:
        return function(name, "s: Settings", writer, [*writer.part("", seen)], doc)
    return _stacked(name, writer, framed, seen, doc)


def function(name: str, parameters: str, writer: Writer, body: Lines, doc: str = "") -> Lines:
    """Return a function with the lines that its body needs before it."""
    text = "\n".join(body)
    needed = _needed(writer, text)
    for parameter in [item.partition(":")[0] for item in parameters.split(", ")]:
        if not re.search(rf"(?<![\w.]){parameter}\b", "\n".join([*needed, text])):
            parameters = re.sub(rf"\b{parameter}:", f"_{parameter}:", parameters)
    shown = [f'"""{doc}"""'] if doc else []
    return [f"def {name}({parameters}) -> Named:", *indented([*shown, *needed, *body])]


def _needed(writer: Writer, text: str) -> Lines:
    """The lines that a body needs before it, each once, and their imports noted."""
    places = {
        "head_sizes": "lora_packer.base_model.blocks.attention",
        "layer_kinds": _FRAMES,
        **dict.fromkeys(
            ("first_dense", "sparse_layers", "dense_before", "sparse_after", "qwen_is_sparse"),
            "lora_packer.base_model.blocks.experts",
        ),
    }
    lines = [line for local, line in writer.scope.lines.items() if re.search(rf"\b{local}\b", text)]
    found = [_without_unused(line, text) for line in dict.fromkeys(lines)]
    for line in found:
        writer.imports |= {(module, helper) for helper, module in places.items() if f"{helper}(" in line}
    return [part for line in found for part in line.split("\n")]


def _without_unused(line: str, text: str) -> str:
    """The same line, whose names that the text does not have are underscores."""
    names, _, value = line.partition(" = ")
    kept = [name if re.search(rf"(?<!\.)\b{name}\b", text) else "_" for name in names.split(", ")]
    return f"{', '.join(kept)} = {value}"


def _stacked(name: str, writer: Writer, framed: Framed, seen: Sequence[Seen], doc: str) -> Lines:
    layers = writer.layers([below_child(one, framed.layers) for one in seen])
    kind = framed.last.kind if framed.last else "no_norm"
    norms = _layer_norms(writer.scope, layers, kind)
    norm_paths = frozenset(f"{norm}.{part}" for norm in norms for part in ("weight", "bias"))
    body = writer.part("{prefix}", [without(one, norm_paths) for one in layers])
    blocks = [_BLOCK.fullmatch(line) for line in body]
    used = [framed.tokens, framed.layers, *([framed.last.name] if framed.last else [])]
    others = [other for other in children(seen) if other not in used]
    arguments = _frame_arguments(writer, framed, norms, kind)
    if not others and body and all(blocks):
        writer.imports.add((_FRAMES, "decoder"))
        listed = ", ".join(f'"{match[2]}": {_flagged(writer, match)}' for match in blocks if match)
        positional = [argument.removeprefix("norms=") for argument in arguments]
        return [f"{name} = decoder({{{listed}}}{''.join(f', {argument}' for argument in positional)})"]
    writer.imports |= {(_FRAMES, "stacked"), ("lora_packer.base_model.module", "Named")}
    index = "index" if re.search(r"\bindex\b", "\n".join(body)) else "_index"
    inner = [
        *_needed(writer, "\n".join(body)),
        "",
        f"def layer(prefix: str, {index}: int) -> Named:",
        *indented(body),
        "",
    ]
    call = f"stacked(s, layer{''.join(f', {argument}' for argument in arguments)})"
    rest = writer.part("", [only(one, others) for one in seen]) if others else []
    ending = [f"yield from {call}", *rest] if rest else [f"return {call}"]
    shown = [f'"""{doc}"""'] if doc else []
    return [f"def {name}(s: Settings) -> Named:", *indented([*shown, *inner, *ending])]


def _layer_norms(scope: Scope, layers: Sequence[Seen], kind: str) -> list[str]:
    """The norms of a layer that the frame can yield: of the hidden size, at every layer, of the last norm's kind."""
    keys = [one.key for one in layers]
    found = [leaf_of(name, layers) for name in children(layers)]
    return [
        leaf.name
        for leaf in found
        if leaf is not None
        and leaf.kind == kind
        and scope.size_of([module.weight_shape[0] for module in leaf.modules], keys) == "s.hidden"
    ]


def _frame_arguments(writer: Writer, framed: Framed, norms: Sequence[str], kind: str) -> list[str]:
    arguments = []
    if kind == "no_norm":
        pass  # whatever their names are, nothing is yielded
    elif sorted(norms) == sorted(AFTER_BOTH):
        writer.imports.add((_FRAMES, "AFTER_BOTH"))
        arguments.append("norms=AFTER_BOTH")
    elif sorted(norms) != sorted(LAYER_NORMS):
        listed = ", ".join(f'"{norm}"' for norm in norms)
        arguments.append(f"norms=({listed}{',' if len(norms) == 1 else ''})")
    if kind != "norm":
        writer.imports.add((_LAYERS, kind))
        arguments.append(f"kind={kind}")
    if framed.tokens != "embed_tokens":
        arguments.append(f'tokens="{framed.tokens}"')
    if framed.last and framed.last.name != "norm":
        arguments.append(f'last_norm="{framed.last.name}"')
    return arguments


def _flagged(writer: Writer, match: re.Match[str]) -> str:
    """A block of a layer, with its options as flags of the config."""
    options = re.findall(r", (\w+)=s\.flag\(\"(\w+)\"\)", match[3])
    if not options:
        return match[1]
    writer.imports.add((_LAYERS, "flagged"))
    listed = ", ".join(f'{option}="{name}"' for option, name in options)
    return f"flagged({match[1]}, {listed})"


def heads(recorded: Recorded, writer: Writer) -> tuple[Lines, list[str]]:
    """Return the function of the heads, if it needs one, and the arguments of ``framed``."""
    arguments, written = [], Lines()
    prefixes = {head: prefix for head, prefix in recorded.prefixes.items() if head != "none" and prefix}
    usual = next(iter(prefixes.values()), "model.")
    if usual == TRANSFORMER:
        writer.imports.add((_FRAMES, "TRANSFORMER"))
        arguments.append("prefix=TRANSFORMER")
    elif usual != "model.":
        arguments.append(f'prefix="{usual}"')
    answering = prefixes.get("question-answering", usual)
    if answering != usual:
        transformer = answering == TRANSFORMER
        if transformer:
            writer.imports.add((_FRAMES, "TRANSFORMER"))
        arguments.append(f"answering_prefix={'TRANSFORMER' if transformer else repr(answering)}")
    others = {head: prefix for head, prefix in prefixes.items() if prefix not in (usual, answering)}
    for head, prefix in others.items():
        writer.open.append(f"under {head} the decoder stands below {prefix}")
    made = next((made for made in _HEADS if _explains(recorded, made[1])), None)
    if made is not None and made[0] is not None:
        writer.imports.add((_FRAMES, made[0]))
        arguments.append(f"heads={made[0]}")
    elif made is None:
        written = _own_heads(recorded, writer)
        arguments.append(f"heads=_{recorded.name}_heads")
    return written, arguments


def beside(recorded: Recorded, model: int, head: str) -> dict[str, Any]:
    """Return what a class has beside the bare model."""
    modules = recorded.classes[model][head]
    prefix = recorded.prefixes.get(head, "")
    return {path: module for path, module in modules.items() if not prefix or not path.startswith(prefix)}


def _explains(recorded: Recorded, make: Callable[[Settings, Head], Named], *, only_head: str | None = None) -> bool:
    """Whether these heads are what the classes have."""
    for model, classes in enumerate(recorded.classes):
        for head in classes:
            if head == "none" or only_head not in (None, head):
                continue
            try:
                named = dict(make(Settings(recorded.configs[model], {}), head))  # type: ignore[arg-type]
            except LoraPackerError:
                return False
            if named != beside(recorded, model, head):
                return False
    return True


def _own_heads(recorded: Recorded, writer: Writer) -> Lines:
    """Write the heads that are not the usual ones."""
    writer.imports |= {(_FRAMES, "head_modules"), ("lora_packer.base_model.architecture", "Head")}
    cases: Lines = []
    own = Writer(recorded.scope(labels=True), writer.imports, writer.open)
    bodies: dict[str, list[str]] = {}
    for head in recorded.heads:
        if head == "none" or _explains(recorded, head_modules, only_head=head):
            continue
        seen = [
            Seen(one.key, beside(recorded, one.key.model, head))
            for one in recorded.bare()
            if head in recorded.classes[one.key.model]
        ]
        bodies.setdefault("\n".join(own.part("", seen)), []).append(head)
    for body, names in bodies.items():
        listed = " | ".join(f'"{name}"' for name in names)
        cases += [f"case {listed}:", *indented(body.split("\n") if body else [f"return  {MARK} nothing"])]
    cases += ["case _:", *indented(["yield from head_modules(s, head)"])]
    return function(f"_{recorded.name}_heads", "s: Settings, head: Head", own, ["match head:", *indented(cases)])
