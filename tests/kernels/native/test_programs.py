"""The C++ under its own tests: each *_test.cpp compiled and run, under sanitizers too."""

import subprocess
from pathlib import Path

import pytest

from treering.kernels.native import library

from .compiling import ROOT, compiler, hatch_build

HERE = Path(__file__).parent
PROGRAMS = sorted(path.stem for path in HERE.glob("*_test.cpp"))
THREADED = [name for name in PROGRAMS if '"threads.h"' in (HERE / f"{name}.cpp").read_text()]
THREADED += ["step_test", "tree_test", "tree_bf16_test"]
SANITIZERS = {
    "address,undefined": ("-O0", "-g1", "-fno-sanitize-recover=all"),
    "thread": ("-O1", "-g1"),
}


def run(name: str, target: str, options: tuple[str, ...], folder: Path) -> None:
    builder = hatch_build()
    width, of_target = builder.targets()[target]
    sources = [HERE / f"{name}.cpp", ROOT / builder.FOLDER / "threads.cpp"]
    program = folder / name
    done = subprocess.run(
        [
            *(*compiler(), *builder.OPTIONS[:4], *of_target, *options),
            *("-Wall", "-Wextra", "-Werror", "-pthread"),
            *(f"-DTR_WIDTH={width}", f"-DTR_TARGET={target}", f"-I{ROOT / builder.FOLDER}"),
            *(*map(str, sources), "-o", str(program)),
        ],
        capture_output=True,
        text=True,
    )
    # A sanitizer that the machine lacks must not look like one that found nothing.
    assert done.returncode == 0, f"{name} does not build with {options}:\n{done.stderr}"
    ran = subprocess.run([str(program)], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.endswith("\n0 failures\n") or ran.stdout == "0 failures\n"


@pytest.mark.parametrize("name", PROGRAMS)
def test_address_and_undefined_behaviour(name: str, tmp_path: Path):
    sanitizer = "address,undefined"
    options = (*SANITIZERS[sanitizer], f"-fsanitize={sanitizer}")
    run(name, library.targets()[0], options, tmp_path)


@pytest.mark.parametrize("name", THREADED)
def test_races(name: str, tmp_path: Path):
    run(name, library.targets()[0], (*SANITIZERS["thread"], "-fsanitize=thread"), tmp_path)


@pytest.mark.parametrize("target", library.TARGETS)
@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "threads_test"])
def test_every_target(name: str, target: str, tmp_path: Path):
    if target not in library.targets():
        pytest.skip(f"{target} does not run on this processor")
    if target in hatch_build().LIKE and "bf16" not in name:
        pytest.skip(f"{target} takes this from {hatch_build().LIKE[target][0]}")
    # -O2: below that GCC does not contract products and sums.
    run(name, target, ("-O2",), tmp_path)
