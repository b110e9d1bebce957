"""The device that a user names: auto, cpu, cuda or cuda:1."""

import torch

from .process_group import launched_by_torchrun, local_rank


def choose_device(name: str = "auto") -> torch.device:
    """Turn a device name into a device that exists.

    `auto` is CUDA when there is any, else the CPU. `auto` and `cuda` take GPU number LOCAL_RANK
    under torchrun.

    Raises:
        ValueError: no such device here.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind != "cuda" or (":" in name and not number.isdecimal()):
        raise ValueError(
            f"device {name!r} is none of auto, cpu, cuda, cuda:0, cuda:1, ...; "
            "give one of these with --device"
        )
    if gpus == 0:
        raise ValueError(
            f"device {name!r} asked for, but PyTorch {torch.__version__} sees no GPU "
            "here; use --device cpu"
        )
    index = int(number) if number else (local_rank() if launched_by_torchrun() else 0)
    if index >= gpus:
        raise ValueError(
            f"device cuda:{index} asked for, but there are {gpus} GPUs; use "
            f"--device cuda:0{f' to cuda:{gpus - 1}' if gpus > 1 else ''}, or start "
            "fewer processes"
        )
    return torch.device("cuda", index)
