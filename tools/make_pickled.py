"""Write ``fixtures/pickled/``: the tiny adapter's tensors as torch itself pickles them.

usage: python tools/make_pickled.py     (in the environment of `make proof`, which has torch)
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent
PICKLED = ROOT / "fixtures" / "pickled"


def main() -> None:
    """Write the file: plain tensors, one that lies transposed in its storage, a parameter, and two of one storage."""
    tensors = load_file(ROOT / "fixtures" / "adapters" / "tiny-llama-qv" / "adapter_model.safetensors")
    names = list(tensors)
    state = OrderedDict(tensors)
    state[names[0]] = tensors[names[0]].t().contiguous().t()  # the same values, other strides
    state[names[1]] = torch.nn.Parameter(tensors[names[1]])
    both = torch.cat([tensors[names[2]].reshape(-1), tensors[names[4]].reshape(-1)])
    cut = tensors[names[2]].numel()
    state[names[2]] = both[:cut].reshape(tensors[names[2]].shape)
    state[names[4]] = both[cut:].reshape(tensors[names[4]].shape)
    PICKLED.mkdir(exist_ok=True)
    torch.save(state, PICKLED / "adapter_model.bin")


if __name__ == "__main__":
    main()
