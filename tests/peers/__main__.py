"""Write docs/peers.md: `make peers`, which installs the libraries first."""

import platform
from pathlib import Path

import torch

from peers.adapters import OURS, PEERS
from peers.checks import CHECKS, outcome

INTRODUCTION = """\
# Peers on the same checks

<!-- made by `make peers`, from tests/peers -->

What nn.LSTM, torchrecurrent and minGRU-pytorch do on checks that name no library \
(`tests/peers/checks.py`), each called as its own documentation calls it \
(`tests/peers/adapters.py`). The checks were chosen by the authors of treering, from what users of \
recurrent layers report; treering's columns are held to them by a test. Speed is not compared here.

`pass`: the numbers are right. `partly`: the note says where. `wrong`: it answers or refuses \
otherwise than the check asks. `fails`: it raises. `-`: it does not offer this.
"""


SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def main() -> None:
    columns = (*PEERS, *OURS)
    columns_of: dict[str, list[str]] = {}
    for peer in columns:
        columns_of.setdefault(f"{peer.package} {peer.version}", []).append(peer.title)
    listed = "; ".join(f"{', '.join(names)}: {package}" for package, names in columns_of.items())
    lines = [INTRODUCTION, f"{listed}. Python {platform.python_version()}, on a CPU.", ""]
    lines.append(f"| | {' | '.join(peer.title for peer in columns)} |")
    lines.append("|---" * (len(columns) + 1) + "|")
    notes: list[str] = []
    for title in CHECKS:
        marks = []
        for peer in columns:
            torch.manual_seed(0)
            mark, why = outcome(title, peer)
            if mark == "not offered":
                mark = "-"
            if why:
                if why not in notes:
                    notes.append(why)
                mark += str(notes.index(why) + 1).translate(SUPERSCRIPTS)
            marks.append(mark)
        print(f"{title}: {marks}", flush=True)
        lines.append(f"| {title} | {' | '.join(marks)} |")
    lines.append("")
    lines += [f"{k}. {note.replace('<', '&lt;')}" for k, note in enumerate(notes, 1)]
    Path("docs/peers.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
