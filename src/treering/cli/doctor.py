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
        "native_threads": library.threads(),
        "kernels": requested(),
        "data": _data(),
    }
    return {"machine": machine, "layers": [_runs(name) for name in layers.names()]}


def _runs(name: str) -> dict[str, str]:
    """What runs a layer of 64 on 8 sequences of 64 tokens that are all different."""
    layer, x = layers.get(name)(64, 64), torch.randn(64, 8, 64)
    training = str(explain(layer, x))
    with torch.no_grad():
        return {"layer": name, "training": training, "inference": str(explain(layer, x))}


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
        machine.add_row(name.replace("_gib", " (GiB)").replace("_", " "), str(value))
    ran = plain_table("What runs 8 sequences of 64 tokens, width 64, and why")
    ran.add_column("layer", no_wrap=True)
    ran.add_column("schedule: kernel (reason)")
    for row in found["layers"]:
        same = row["training"] == row["inference"]
        ran.add_row(row["layer"], row["training"] if same else f"training: {row['training']}")
        if not same:
            ran.add_row("", f"inference: {row['inference']}")
    with standard_output() as out:
        out.print(machine, "", ran, "", sep="\n")
        out.print("TREERING_KERNELS=reference turns kernels off; TREERING_TARGET=portable, avx2 or")
        out.print("avx512 chooses the instructions of the native ones; TREERING_THREADS=own gives")
        out.print("them threads beside PyTorch's.")
