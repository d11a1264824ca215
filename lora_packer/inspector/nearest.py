"""What was probably meant by a name that the base model does not have: one spelt like it, or one that does the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher, get_close_matches

from lora_packer.base_model import Modules

_ONE_FOR_THREE = frozenset(
    {
        "qkv_proj",
        "query_key_value",
        "Wqkv",
        "wqkv",
        "W_pack",
        "c_attn",
        "qkv",
        "in_proj_qkv",
        "in_proj_qkvz",
        "linear_qkv",
    }
)
# What the families of models call the same layer; a name may do the work of several.
_SAME_WORK: tuple[frozenset[str], ...] = (
    *(
        _ONE_FOR_THREE.union({name}, others)
        for name, others in {
            "q_proj": ("query", "q_lin", "q", "wq", "query_proj"),
            "k_proj": ("key", "k_lin", "k", "wk", "key_proj", "kv_proj", "wkv"),
            "v_proj": ("value", "v_lin", "v", "wv", "value_proj", "kv_proj", "wkv"),
        }.items()
    ),
    frozenset({"o_proj", "out_proj", "dense", "out_lin", "wo", "o", "c_proj", "linear_proj"}),
    frozenset(
        {"gate_proj", "gate_up_proj", "w1", "wi_0", "fc1", "wi", "dense_h_to_4h", "c_fc", "Wi", "lin1", "linear_fc1"}
    ),
    frozenset(
        {"up_proj", "gate_up_proj", "w3", "wi_1", "fc1", "wi", "dense_h_to_4h", "c_fc", "Wi", "lin1", "linear_fc1"}
    ),
    frozenset({"down_proj", "w2", "fc2", "wo", "dense_4h_to_h", "c_proj", "lin2", "linear_fc2"}),
    frozenset({"lm_head", "unembed_tokens", "embed_out", "output"}),
    frozenset({"embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings", "shared"}),
)
_PATTERN_MARKS = frozenset("*|()[]\\^$?+")


def nearest(name: str, modules: Modules) -> tuple[str, ...]:
    """Return the names of the base's layers that were probably meant by ``name``; nothing where none is alike.

    Fused parameters, which ``target_parameters`` names, are not among them: see ``nearest_parameters``.
    """
    leaves = _leaves(path for path, module in modules.items() if module.kind != "parameter")
    leaf = name.rpartition(".")[2]
    for part in (leaf,), *_cut(leaf, leaves):
        found = [other for one in part for other in ((one,) if one in leaves else _same_work(one, leaves))]
        if found:
            return tuple(dict.fromkeys(found))
    spelt = {other.lower(): other for other in leaves if _alike(leaf.lower(), other.lower())}
    return tuple(spelt[other] for other in get_close_matches(leaf.lower(), spelt, 1, 0.75))


def _alike(one: str, other: str) -> bool:
    """Whether names are spelt alike apart from the last word, which says little where both have it: q_proj, up_proj."""
    (first, _, end), (second, _, other_end) = one.rpartition("_"), other.rpartition("_")
    return end != other_end or not first or SequenceMatcher(None, first, second).ratio() >= 0.6


def nearest_parameters(name: str, modules: Modules) -> tuple[str, ...]:
    """Return the experts' fused parameters that were probably meant, as ``target_parameters`` names them."""
    fused = [path for path, module in modules.items() if module.kind == "parameter" and len(module.weight_shape) == 3]
    ends = {path.rpartition(".")[2]: ".".join(path.split(".")[-3:]) for path in reversed(fused)}
    leaf = name.rpartition(".")[2]
    if leaf in ends:
        return (ends[leaf],)
    return tuple(ends[other] for other in _same_work(leaf, list(ends)))


def is_pattern(name: str) -> bool:
    """Whether a name was meant as a regular expression, which no entry of a list is."""
    return not _PATTERN_MARKS.isdisjoint(name)


def _leaves(paths: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(path.rpartition(".")[2] for path in paths))


def _same_work(leaf: str, leaves: Sequence[str]) -> tuple[str, ...]:
    works = [work for work in _SAME_WORK if leaf in work]
    return tuple(other for other in leaves if other != leaf and any(other in work for work in works))


def _cut(leaf: str, leaves: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Two names in one, where a comma was lost."""
    known = frozenset(leaves).union(*_SAME_WORK)
    cuts = ((leaf[:at], leaf[at:].lstrip(", ")) for at in range(1, len(leaf)))
    return (cut for cut in cuts if cut[0] in known and cut[1] in known)
