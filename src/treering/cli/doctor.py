"""`treering doctor`: what runs on this machine, and why."""

import os
import platform
from importlib.metadata import version
from typing import Any

import psutil
import torch

from treering import explain, layers
from treering.cli.options import Flag
from treering.cli.runs import processor
from treering.cli.streams import plain_table, print_json, standard_output
from treering.dispatch import requested
from treering.kernels.native import library
from treering.tasks.text import locate


def examine() -> dict[str, Any]:
    """Everything the command shows, as plain data."""
    gpu = torch.cuda.is_available()
    machine = {
        "treering": version("treering"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "onednn": torch.backends.mkldnn.is_available(),
        "gpu": torch.cuda.get_device_name() if gpu else "none found by PyTorch",
        "native": library.status(),
        "kernels": requested(),
        "data": _data(),
    }
    x = torch.zeros(8, 2, 4)
    ran = [{"layer": n, "runs": str(explain(layers.get(n)(4, 4), x))} for n in layers.names()]
    return {"machine": machine, "layers": ran}


def _data() -> str:
    folder = os.environ.get("TREERING_DATA")
    where = f"TREERING_DATA={folder}" if folder else "TREERING_DATA is not set"
    found = locate.find("r8", "train.txt")
    return f"{where}; r8 {f'is at {found.parent}' if found else 'would be downloaded'}"


def doctor_(*, json: Flag = False) -> None:
    """Say what this machine has, and which kernel each layer runs on it and why.

    Example: treering doctor

    Parameters
    ----------
    json
        Print JSON.
    """
    found = examine()
    if json:
        print_json(found)
        return
    machine = plain_table("Machine", header=False)
    for name, value in found["machine"].items():
        machine.add_row(name.replace("_gib", " (GiB)"), str(value))
    ran = plain_table("What runs, and why")
    ran.add_column("layer", no_wrap=True)
    ran.add_column("schedule: kernel (reason)")
    for row in found["layers"]:
        ran.add_row(row["layer"], row["runs"])
    with standard_output() as out:
        out.print(machine, "", ran, "", sep="\n")
        out.print("TREERING_KERNELS=reference turns kernels off; TREERING_TARGET=portable, avx2 or")
        out.print("avx512 chooses the instructions of the native ones.")
