"""What gets installed: wheels with and without a compiler, straight and by way of an sdist."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from .compiling import ROOT, compiler, hatch_build

RUN_A_KERNEL = """
import sys, torch, treering as tr
from treering.kernels.native import library
assert tr.__file__.startswith(sys.argv[1]), tr.__file__
layer, x = tr.PRLSTM(3, 5), torch.randn(9, 4, 3)
with torch.no_grad():
    with tr.use_kernels("reference"):
        plain = layer(x)[0]
    with tr.use_kernels("native-pr-lstm"):
        torch.testing.assert_close(layer(x)[0], plain)
print(library.status())
"""


def python(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("CXX", "TREERING_BUILD")}
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        encoding="utf-8",
        env={**clean, **environment},
        cwd=ROOT,
    )


def wheel_of(source: Path, folder: Path, **environment: str) -> Path:
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", str(folder))
    done = python("-m", "pip", "wheel", *options, str(source), **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> None:
    done = python("-m", "pip", "install", "--no-deps", "--target", str(folder), str(wheel))
    assert done.returncode == 0, done.stderr


def native_files(wheel: Path) -> set[str]:
    inside = "treering/kernels/native/"
    names = zipfile.ZipFile(wheel).namelist()
    return {n.removeprefix(inside) for n in names if n.startswith(inside) and ".py" not in n}


@pytest.mark.slow
def test_a_wheel_made_from_the_sdist_runs_its_kernels(tmp_path: Path):
    compiler()
    sdist = tmp_path / "sdist"
    done = python("-m", "hatchling", "build", "-t", "sdist", "-d", str(sdist))
    assert done.returncode == 0, done.stderr
    (archive,) = sdist.iterdir()
    wheel = wheel_of(archive, tmp_path, TREERING_BUILD="1")
    builder = hatch_build()
    assert wheel.name.endswith(f"-py3-none-{builder.platform_tag()}.whl")
    assert native_files(wheel) == {f"{target}.so" for target in builder.targets()}
    install(wheel, tmp_path / "installed")
    there = str(tmp_path / "installed")
    ran = python("-c", RUN_A_KERNEL, there, PYTHONPATH=there)
    assert ran.returncode == 0, ran.stderr
    assert "(of " in ran.stdout


def test_without_a_compiler_a_wheel_of_python_alone_says_why(tmp_path: Path):
    wheel = wheel_of(ROOT, tmp_path, PATH=str(tmp_path))
    assert wheel.name.endswith("-py3-none-any.whl")
    assert native_files(wheel) == {"not_built.txt"}
    install(wheel, tmp_path / "installed")
    there = str(tmp_path / "installed")
    ran = python("-c", RUN_A_KERNEL, there, PYTHONPATH=there)
    assert ran.returncode == 1
    assert "were not built: no C++ compiler: no c++, g++ or clang++ on the PATH" in ran.stderr


def test_the_build_says_once_what_it_lacks(tmp_path: Path):
    words = ("-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path))
    done = python(*words, PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("installed without native kernels: no C++") == 1
    done = python(*words, PATH=str(tmp_path), TREERING_BUILD="1")
    assert done.returncode != 0
    assert "NoCompilerError: no C++ compiler" in done.stderr
    done = python(*words, TREERING_BUILD="0")
    assert done.returncode == 0
    assert "TREERING_BUILD=0" in done.stdout + done.stderr


def test_a_compiler_that_fails_is_no_reason_not_to_install(tmp_path: Path):
    done = python("-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path), CXX="false")
    assert done.returncode == 0, done.stderr
    assert "without native kernels: false -std=c++17" in done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*-py3-none-any.whl")
    assert native_files(wheel) == {"not_built.txt"}


def test_a_compiler_that_is_asked_for_must_be_there(monkeypatch: pytest.MonkeyPatch):
    builder = hatch_build()
    monkeypatch.setenv("CXX", "no-such-compiler -m64")
    with pytest.raises(builder.NoCompilerError, match="CXX=no-such-compiler -m64 is not there"):
        builder.compiler()
    monkeypatch.setenv("CXX", f"{sys.executable} -I")
    assert builder.compiler() == [sys.executable, "-I"]


def test_tag_of_a_universal_python_is_that_of_the_processor(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sysconfig, "get_platform", lambda: "macosx-11.0-universal2")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    builder = hatch_build()
    assert builder.platform_tag() == "macosx_11_0_arm64"
    assert list(builder.targets()) == ["portable"]
