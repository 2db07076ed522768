"""Where PyTorch computes: on a CPU, or on one of this machine's GPUs."""

import os
import re
from importlib.metadata import version
from pathlib import Path

from adtr.errors import UserError


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether this machine has a GPU that its PyTorch may use, as far as can be told without seconds of importing it.

    Args:
        devices: the folder of the system's devices.
    """
    return _may_be_used() and any(devices.glob("nvidia[0-9]*"))


def _may_be_used() -> bool:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and not version("torch").endswith("+cpu")


def device_of(name: str) -> str:
    """The device that `name` asks for: cpu, cuda, cuda:NUMBER, or auto, a GPU if there is one; float32 stays float32.

    Raises:
        UserError: there is no such GPU, or one that PyTorch cannot use.
    """
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto" and not there:
        in_slurm = "SLURM_JOB_ID" in os.environ  # where a job without a GPU may see that of its node
        given = {"SLURM_JOB_GPUS", "SLURM_STEP_GPUS"} & {*os.environ}
        if _may_be_used() and given if in_slurm else has_gpu():
            raise UserError(
                f"{'this job' if in_slurm else 'this machine'} has a GPU that PyTorch {torch.__version__} cannot use: "
                "python -c 'import torch; torch.cuda.init()' says why; to compute on the CPU: --device cpu, or for all "
                f"stages {'gpus: 0 in params/cluster.yaml' if in_slurm else 'CUDA_VISIBLE_DEVICES= (to nothing)'}"
            )
    name = {"auto": "cuda" if there else "cpu"}.get(name, name)
    if not re.fullmatch("cpu|cuda(:[0-9]{1,3})?", name):
        raise UserError(f"device {name}: it is cpu, cuda, cuda:NUMBER or auto")
    if name != "cpu" and int(name.partition(":")[2] or 0) >= there:
        raise UserError(f"device {name}: PyTorch sees {there or 'no'} GPU{'s' * (there > 1)} here")
    torch.backends.cudnn.allow_tf32 = False
    return name
