"""One step of two processes in half precision, on the CPU or both on one GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from dfer.config.settings import ArmSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.training import Plan
from dfer.training.step import Step, make_network
from dfer.training.whole_batch_norm import with_whole_batch_norm
from dfer.training.world import World


def step_in_bfloat16(
    *, store: Path, world: World, network: str, count: int, device: str = "cpu", send: Any
) -> list[float]:
    """Takes a step on a process's share of `count` clips; the sums of the new weights and statistics."""
    dist.init_process_group(
        "gloo", store=dist.FileStore(str(store), world.size), rank=world.rank, world_size=world.size
    )
    torch.manual_seed(0)
    plan = Plan(
        arm=ArmSettings(labels="soft", mixing="midas"),
        model=ModelSettings(name=network, pretrained=None, input_size=32, width=0.125, dropout=0.0),
        sampling=SamplingSettings(num_segments=8),
        train=TrainSettings(batch_size=8, processes=world.size, precision="bfloat16", device=device),
    )
    model = with_whole_batch_norm(make_network(plan).to(device), torch.device(device))
    step = Step(model, plan, steps=10, world=world)
    data = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (count, 8, 3, 32, 32), dtype=torch.uint8, generator=data)
    rows = world.share(range(count))
    labels = torch.full((len(rows), 7), 1 / 7)
    step(frames[rows].to(device), labels, torch.Generator().manual_seed(2), count=count)
    dist.destroy_process_group()
    return [float(tensor.double().sum()) for tensor in model.state_dict().values()]
