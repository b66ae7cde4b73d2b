"""Compile the native kernels: for every wheel and editable install, and by hand in a checkout.

`python hatch_build.py` (`make native`) puts the libraries beside their sources, where an editable
install finds them; `python hatch_build.py avx512` compiles that target alone. One library for each
target, not one for all: the copies of std::vector's functions that each target compiles have the
same names, and of equal names the linker keeps one, so that the portable code could come to call
instructions that the processor lacks.

Environment: CXX the compiler, CXXFLAGS and LDFLAGS further options, TREERING_BUILD=0 to leave the
kernels out, TREERING_BUILD=1 to fail where they cannot be built.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

FOLDER = Path("src/treering/kernels/native")
SOURCES = ("step.cpp", "tree.cpp", "tree_bf16.cpp", "isa.cpp", "threads.cpp")
OPTIONS = (
    *("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno"),
    # Copies of a few vectors are loops; made into calls they take longer than the arithmetic.
    "-fno-tree-loop-distribute-patterns",
    *("-fPIC", "-pthread", "-fvisibility=hidden"),
)
AVX2 = ("-mavx2", "-mfma")
AVX512 = tuple(f"-mavx512{part}" for part in ("f", "bw", "cd", "dq", "vl"))
# Floats in a register, and what the compiler may use: what `tr_runs` in isa.cpp asks for.
PORTABLE = {"portable": (4, ())}
WIDEST = (*AVX2, *AVX512, "-mprefer-vector-width=512")
X86 = {
    "avx2": (8, AVX2),
    "avx512": (16, WIDEST),
    "avx512bf16": (16, (*WIDEST, "-mavx512bf16")),
}
# A target that differs from another one in these sources alone; the rest it takes from there.
LIKE = {"avx512bf16": ("avx512", ("tree_bf16.cpp", "isa.cpp"))}
# Where there are no libraries, this file says why.
NOT_BUILT = "not_built.txt"


class BuildError(Exception):
    """No compiler, or one that fails; the text says which."""


class NoCompilerError(BuildError):
    pass


def targets() -> dict[str, tuple[int, tuple[str, ...]]]:
    x86 = platform.machine().lower() in ("x86_64", "amd64") and sys.maxsize > 2**32
    return {**PORTABLE, **(X86 if x86 else {})}


def compiler() -> list[str]:
    """$CXX, or the first C++ compiler found."""
    if sys.platform == "win32":
        raise NoCompilerError("native kernels are not built on Windows")
    asked = os.environ.get("CXX")
    for command in [asked] if asked else ["c++", "g++", "clang++"]:
        words = shlex.split(command)
        if words and shutil.which(words[0]):
            return words
    looked = f"CXX={asked} is not there" if asked else "no c++, g++ or clang++ on the PATH"
    raise NoCompilerError(f"no C++ compiler: {looked}; install one (Debian: apt install g++)")


def build(root: Path, out: Path, only: Sequence[str] = ()) -> list[Path]:
    """The libraries of all targets, or `only` these; an old one is replaced whole.

    Every source of every target is compiled by itself, as many side by side as there are cores.
    """
    unknown = set(only) - set(targets())
    if unknown:
        raise BuildError(
            f"no target {', '.join(sorted(unknown))}; known here: {', '.join(targets())}"
        )
    words = compiler()
    symbols = [] if sys.platform == "darwin" else ["-Wl,-Bsymbolic"]
    more = [shlex.split(os.environ.get(name, "")) for name in ("CXXFLAGS", "LDFLAGS")]
    known = targets()
    wanted = [name for name in known if not only or name in only]

    def compiled(target: str, source: str, folder: Path) -> Path:
        width, options = known[target]
        made = folder / f"{target}-{source}.o"
        defines = (f"-DTR_WIDTH={width}", f"-DTR_TARGET={target}")
        from_source = ("-c", str(root / FOLDER / source), "-o", str(made))
        _run([*words, *OPTIONS, *options, *defines, *more[0], *from_source])
        return made

    def linked(target: str, parts: Sequence[Path]) -> Path:
        library, unfinished = out / f"{target}.so", out / f".{target}.{os.getpid()}.so"
        command = [*words, *OPTIONS, "-shared", *map(str, parts), "-o", str(unfinished)]
        try:
            _run([*command, *symbols, *more[1]])
            unfinished.replace(library)
        finally:
            unfinished.unlink(missing_ok=True)
        return library

    with tempfile.TemporaryDirectory() as made, ThreadPoolExecutor(os.cpu_count()) as side_by_side:
        # The longest first: sources in their order, each for all targets.
        parts: dict[tuple[str, str], Future[Path]] = {}
        for source in SOURCES:
            for target in map(partial(_compiled_for, source), wanted):
                if (target, source) not in parts:
                    parts[target, source] = side_by_side.submit(
                        compiled, target, source, Path(made)
                    )
        return [
            linked(
                target,
                [parts[_compiled_for(source, target), source].result() for source in SOURCES],
            )
            for target in wanted
        ]


def _compiled_for(source: str, target: str) -> str:
    """The target whose instructions a source of this target's library uses."""
    other, own = LIKE.get(target, (target, ()))
    return target if source in own else other


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, stderr=subprocess.PIPE, encoding="utf-8", errors="replace")
    if done.returncode:
        said = "\n".join(done.stderr.splitlines()[:20])
        raise BuildError(f"{shlex.join(command)} failed:\n{said}")


def platform_tag() -> str:
    """As in a wheel's name. A universal Python of macOS gets a library for this processor."""
    tag = sysconfig.get_platform().replace("universal2", platform.machine())
    return tag.replace("-", "_").replace(".", "_")


def get_build_hook() -> Any:
    """What hatchling asks for; without hatchling this file is still a program."""
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    class NativeKernels(BuildHookInterface[Any]):
        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            root = Path(self.root)
            editable = version == "editable"
            self.out = root / FOLDER if editable else Path(tempfile.mkdtemp())
            note = self.out / NOT_BUILT
            try:
                if os.environ.get("TREERING_BUILD") == "0":
                    raise BuildError("TREERING_BUILD=0 left it out")
                files = build(root, self.out)
                note.unlink(missing_ok=True)
                build_data["pure_python"] = False
                build_data["tag"] = f"py3-none-{platform_tag()}"
            except BuildError as reason:
                if os.environ.get("TREERING_BUILD") == "1":
                    raise
                self.app.display_warning(f"treering is installed without native kernels: {reason}")
                note.write_text(f"{reason}\n", encoding="utf-8")
                files = [note]
            if not editable:
                inside = FOLDER.relative_to("src")
                build_data["force_include"] |= {str(f): str(inside / f.name) for f in files}

        def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
            if version != "editable":
                shutil.rmtree(self.out)

    return NativeKernels


def main() -> int:
    root = Path(__file__).parent
    note = root / FOLDER / NOT_BUILT
    try:
        build(root, root / FOLDER, sys.argv[1:])
    except BuildError as reason:
        print(f"treering runs without native kernels: {reason}", file=sys.stderr)
        note.write_text(f"{reason}\n", encoding="utf-8")
        # Sources that do not compile are a mistake; a machine without a compiler is none.
        optional = isinstance(reason, NoCompilerError) and os.environ.get("TREERING_BUILD") != "1"
        return 0 if optional else 1
    note.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
