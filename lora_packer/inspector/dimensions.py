"""What to call a dimension of the base model that a tensor has."""

from __future__ import annotations

from lora_packer.inspector.case import Case
from lora_packer.peft.expected import Want


def dimension(want: Want, axis: int, case: Case) -> str:
    """Name the dimension that this axis has, such as ``hidden size``."""
    expected = want.shape[axis]
    leaf = want.path.rpartition(".")[2]
    is_output = want.part in ("lora_B.weight", "lora_B.bias", "lora_magnitude_vector") or (not want.part and axis == 0)
    vocab, hidden = (None, None)
    if case.input_embedding is not None:
        vocab, hidden = case.modules[case.input_embedding].weight_shape
    if want.part == "token_adapter.trainable_tokens_delta" and axis == 0:
        return "number of trained tokens"
    of_embeddings = want.part == "lora_embedding_A" or "embed" in leaf or leaf == "weight"
    if expected == vocab and (of_embeddings or want.path == case.output_head):
        return "vocabulary"
    if leaf in ("k_proj", "v_proj") and is_output:
        return "key/value size (kv heads x head size)"
    if (leaf == "q_proj" and is_output) or (leaf == "o_proj" and not is_output):
        return "attention size (heads x head size)"
    if expected == hidden:
        return "hidden size"
    if (leaf in ("gate_proj", "up_proj") and is_output) or (leaf == "down_proj" and not is_output):
        return "intermediate size"
    return "out features" if is_output else "in features"
