"""The two files themselves (LP1): there, readable, and read alike by the safetensors library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lora_packer.adapter import CONFIG_NAME, WEIGHTS_NAME, Adapter
from lora_packer.finding import Finding
from lora_packer.inspector.rules.rule import SAME_FIELD, Effect, Rule
from lora_packer.inspector.values import SMALL
from lora_packer.redact import credential_in, escape

MISSING_FILE = Rule(
    "LP101",
    "missing-file",
    "error",
    "A required file is not at the root of the adapter.",
    "Every loader looks for adapter_config.json and adapter_model.safetensors at the root, and services refuse "
    "an upload without them.",
    "Give the folder that PEFT's save_pretrained wrote.",
)
UNREADABLE_CONFIG = Rule(
    "LP102",
    "unreadable-config",
    "error",
    "adapter_config.json is not a JSON object.",
    "No loader can read it.",
    "Save the adapter again with save_pretrained.",
)
DOUBTFUL_JSON = Rule(
    "LP103",
    "doubtful-json",
    "error",
    "adapter_config.json holds a key twice, or a number that JSON does not have.",
    "Readers disagree: Python takes the last of two equal keys and accepts NaN, others take the first or refuse.",
    "Write each key once, with a finite number.",
    explains=tuple(Effect(code, field=SAME_FIELD) for code in ("LP201", "LP202", "LP203", "LP204")),
)
BAD_SAFETENSORS = Rule(
    "LP104",
    "bad-safetensors",
    "error",
    "adapter_model.safetensors is damaged, cut off, or another format.",
    "The file cannot be loaded, or different readers would see different tensors in it.",
    "Save the adapter again, or copy the file again.",
)
READERS_DISAGREE = Rule(
    "LP105",
    "readers-disagree",
    "error",
    "The safetensors library reads the file differently from this package.",
    "A file that two readers see differently can serve other weights than those that were checked.",
    "Save the adapter again with a current safetensors.",
    needs="values",
)
NO_TENSORS = Rule(
    "LP106",
    "no-tensors",
    "error",
    "The weights file holds no tensors.",
    "PEFT loads it with a warning and serves the base model. ZeRO-3 training that was saved without gathering "
    "leaves such a file.",
    "Gather the weights before saving, or save from the last checkpoint.",
)
WEIGHTS_BESIDE = Rule(
    "LP107",
    "weights-beside",
    "warning",
    "Files beside the adapter hold further weights that were trained with it.",
    "Nothing that loads an adapter reads them, and no archive carries them: the served model will lack that training.",
    "Merge the adapter and these weights into the base model, or train those modules with LoRA or modules_to_save.",
)

CREDENTIAL_INSIDE = Rule(
    "LP108",
    "credential-inside",
    "error",
    "adapter_config.json or the weights' metadata holds what looks like a token or key.",
    "Whoever gets the adapter gets the credential: a service, everybody who may read the bucket or the repository.",
    "Revoke the credential, take it out of the file, and check again. Where it is none: --ignore LP108.",
)

_OF_DEFECT = {
    "missing-file": MISSING_FILE,
    "unreadable-config": UNREADABLE_CONFIG,
    "doubtful-json": DOUBTFUL_JSON,
    "bad-safetensors": BAD_SAFETENSORS,
}


def defects(adapter: Adapter) -> Iterator[Finding]:
    """What is wrong with a file before its content means anything."""
    missing = [defect for defect in adapter.defects if defect.kind == "missing-file"]
    is_one_cause = len(missing) > 1 and len({defect.hint for defect in missing}) == 1
    if is_one_cause:  # say, all of it lies one folder deeper
        names = [defect.file for defect in missing]
        yield MISSING_FILE.finding(
            f"{' and '.join(map(str, names))} are missing at the root of the adapter",
            file=names[0],
            count=len(names),
            expected=names,
            actual="missing",
            hint=missing[0].hint,
            fixable=all(defect.fixable for defect in missing),
        )
    for defect in adapter.defects:
        if is_one_cause and defect in missing:
            continue
        details = {
            name: getattr(defect, name) for name in ("file", "tensor", "field", "expected", "actual", "hint", "fixable")
        }
        yield _OF_DEFECT[defect.kind].finding(defect.message, **details)


# What trainers call weights that they train beside the LoRA: LLaVA (non_lora_trainables.bin, mm_projector.bin),
# Qwen-VL-Series-Finetune (non_lora_state_dict.bin), ms-swift (vit.safetensors), LongLoRA (trainable_params.bin), and
# embeddings of new tokens (new_embeddings.safetensors). A value head is none: what is served does not use it.
_TRAINED = re.compile(
    r"""(?:
      non_lora_\w+ | \w*trainable_params | modules_to_save
    | (?:new|added|additional|extra)_embed\w* | embed_tokens | (?:un)?embeddings
    | (?:\w+_)?(?:projector|aligner|merger|resampler)
    | vit | visual | vision_(?:tower|model|encoder) | audio_(?:tower|encoder)
    | (?:lm|score|cls|classification|classifier)_head | classifier
    )\.(?:safetensors|bin|pt|pth)""",
    re.VERBOSE | re.IGNORECASE,
)


def weights_beside(adapter: Adapter) -> Iterator[Finding]:
    """Files at the root that by their names hold trained weights; none of them is opened."""
    found = [name for name in adapter.files if _TRAINED.fullmatch(name)]
    if found:
        listed = escape(", ".join(found), 200)
        holds = f"{listed} by {'its name holds' if len(found) == 1 else 'their names hold'}"
        message = f"{holds} trained weights that no LoRA adapter carries: what is served will lack them"
        yield WEIGHTS_BESIDE.finding(message, file=escape(found[0]), count=len(found))


def credentials_inside(adapter: Adapter) -> Iterator[Finding]:
    """Tokens and keys in the two files that are packed; the finding never shows them."""
    metadata = adapter.header.metadata if adapter.header is not None else {}
    places = {CONFIG_NAME: adapter.config_bytes.decode("utf-8", "replace"), WEIGHTS_NAME: "\n".join(metadata.values())}
    for name, text in places.items():
        found = credential_in(text)
        if found is not None:
            where = "its metadata" if name == WEIGHTS_NAME else "it"
            yield CREDENTIAL_INSIDE.finding(f"{name} has what looks like {found} in {where}", file=name)


def no_tensors(adapter: Adapter) -> Iterator[Finding]:
    """A weights file that can be read and holds nothing."""
    if adapter.header is not None and not adapter.tensors:
        yield NO_TENSORS.finding(f"{WEIGHTS_NAME} holds no tensors", file=WEIGHTS_NAME, actual=0)


def second_opinion(path: Path, adapter: Adapter) -> Iterator[Finding]:
    """The safetensors library's reading of the header, where it is not ours."""
    from safetensors import SafetensorError

    try:
        theirs = _small(path) if path.stat().st_size <= SMALL else _large(path)
    except (SafetensorError, OSError) as error:
        message = f"the safetensors library refuses {WEIGHTS_NAME}: {escape(str(error))}"
        yield READERS_DISAGREE.finding(message, file=WEIGHTS_NAME)
        return
    ours = {name: (info.dtype, info.shape) for name, info in adapter.tensors.items()}
    if ours == theirs:
        return
    name = next(name for name in [*ours, *theirs] if ours.get(name) != theirs.get(name))
    details = {"expected": escape(str(ours.get(name)), 80), "actual": escape(str(theirs.get(name)), 80)}
    message = f"the safetensors library reads {WEIGHTS_NAME} differently from this package"
    yield READERS_DISAGREE.finding(message, file=WEIGHTS_NAME, tensors=[name], **details)


def _small(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The library's reading of a file that is read whole: quicker than to load numpy, as it does to open one."""
    from safetensors import deserialize

    parts = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    return {name: (part["dtype"], tuple(part["shape"])) for name, part in parts}


def _large(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as opened:
        parts = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
        return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()}
