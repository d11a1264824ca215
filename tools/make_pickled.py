"""Write ``fixtures/pickled/``: the tiny adapter's tensors as torch itself pickles them, and as FSDP shards them.

usage: python tools/make_pickled.py     (in the environment of `make proof`, which has torch)
"""

from __future__ import annotations

import os
import shutil
from collections import OrderedDict
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import multiprocessing
from torch.distributed import checkpoint
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

ROOT = Path(__file__).resolve().parent.parent
PICKLED = ROOT / "fixtures" / "pickled"
SHARDED = "pytorch_model_fsdp_0"
RANKS = 3


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
    shutil.rmtree(PICKLED / SHARDED, ignore_errors=True)
    multiprocessing.spawn(save_sharded, (RANKS,), nprocs=RANKS)


def save_sharded(rank: int, ranks: int) -> None:
    """Save this rank's part, as accelerate's ``save_fsdp_model`` does of a sharded state dict: below "model"."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    mesh = dist.init_device_mesh("cpu", (ranks,))
    tensors = load_file(ROOT / "fixtures" / "adapters" / "tiny-llama-qv" / "adapter_model.safetensors")
    # By rows, as FSDP 2 does; one by columns, as tensor parallelism does; one that every rank has whole.
    placed = {name: Shard(0) for name in tensors} | dict(zip(tensors, (Shard(1), Replicate()), strict=False))
    state = {name: distribute_tensor(tensor, mesh, [placed[name]]) for name, tensor in tensors.items()}
    checkpoint.save({"model": state}, checkpoint_id=str(PICKLED / SHARDED))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
