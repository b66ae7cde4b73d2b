"""Finding, choosing and loading the compiled kernels.

Legend: B batch, T time, I input, H hidden.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import treering as tr
from treering._errors import UserError
from treering.kernels.native import library

from .compiling import hatch_build


@pytest.fixture(autouse=True)
def _no_target_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TREERING_TARGET", raising=False)


@pytest.fixture
def declarations(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test's own, forgotten afterwards."""
    monkeypatch.setattr(library, "_declared", dict(library._declared))
    yield
    library._open.cache_clear()


def script(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        timeout=120,
    )


def test_built_from_the_present_sources():
    assert library.missing() is None
    assert not library.stale(), "run `make native`"
    assert library.status().startswith(f"{library.targets()[0]} (of ")


def test_targets_are_those_that_the_build_makes():
    assert set(hatch_build().targets()) <= set(library.TARGETS)
    assert "portable" in library.targets()
    for name in library.targets():
        with library.use_target(name):
            tr_target = library.load().tr_target
            tr_target.restype = ctypes.c_char_p
            assert tr_target() == name.encode()


def test_every_target_gives_the_same_numbers():
    layer = tr.PRLSTM(5, 19, refinements=2)
    x = torch.randn(17, 3, 5)
    results = []
    for name in library.targets():
        layer.zero_grad()
        given = x.clone().requires_grad_()
        with library.use_target(name), tr.use_kernels("native-pr-lstm"):
            y, _ = layer(given)
            y.square().sum().backward()
        assert given.grad is not None
        results.append([y.detach(), given.grad, *(p.grad for p in layer.parameters())])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert a is not None
            torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)


def test_environment_variable_chooses_the_target(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TREERING_TARGET", "portable")
    assert library.target() == "portable"
    assert library.status().startswith("portable (of ")
    with library.use_target(library.targets()[0]):
        assert library.target() == library.targets()[0]


def test_a_target_that_is_none_raises(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=r"unknown target 'avx51'; did you mean 'avx512'"):
        library.use_target("avx51").__enter__()
    monkeypatch.setenv("TREERING_TARGET", "sse")
    with pytest.raises(UserError, match="unknown target 'sse'"):
        library.missing()


def test_a_target_that_does_not_run_here_raises(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(library, "targets", lambda: ("portable",))
    monkeypatch.setenv("TREERING_TARGET", "avx512")
    with pytest.raises(UserError, match=r"'avx512' does not run here; portable do"):
        library.load()


def test_another_interface_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(library, "ABI", library.ABI + 1)
    library._open.cache_clear()
    assert f"wanted is {library.ABI}; run `make native`" in (library.missing() or "")
    with pytest.raises(UserError, match="has interface"):
        library.load()


class TreeCall(ctypes.Structure):
    _fields_ = (("given", ctypes.c_size_t),)


@pytest.mark.usefixtures("declarations")
def test_a_structure_of_another_size_is_refused():
    library.declare("tr_tree_forward", TreeCall)
    assert "TreeCall has another size in" in (library.missing() or "")


@pytest.mark.usefixtures("declarations")
def test_a_function_that_the_library_lacks_is_refused():
    library.declare("tr_of_tomorrow", ctypes.c_int)
    assert "has no tr_of_tomorrow; run `make native`" in (library.missing() or "")


def test_what_goes_wrong_in_a_kernel_is_an_exception():
    """As the C++ reports it: 1 and 2."""
    assert library.load().tr_tree_forward.errcheck is library._done
    with pytest.raises(MemoryError, match="native kernel"):
        library._done(1, None, ())
    with pytest.raises(OSError, match="could not start its threads"):
        library._done(2, None, ())


@pytest.mark.skipif(sys.platform != "linux", reason="limits threads as Linux does")
def test_no_threads_to_be_had():
    """Where the process may address less than the stacks of so many need."""
    ran = script(
        """
        import os, resource, torch, treering as tr
        from treering.kernels.native import library
        torch.set_num_threads(64)
        layer, x = tr.GRU(16, 64), torch.randn(50, 256, 16)
        library.load()
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20), resource.RLIM_INFINITY))
        try:
            with torch.no_grad(), tr.use_kernels("native-gru"):
                layer(x)
        except OSError as error:
            print(error)
        """,
        TREERING_THREADS="own",
    )
    assert ran.returncode == 0, ran.stderr
    assert "could not start its threads" in ran.stdout


def test_import_loads_no_library():
    ran = script("import sys, treering; print(open('/proc/self/maps').read())")
    if not Path("/proc/self/maps").exists():
        pytest.skip("no /proc here to look into")
    assert ran.returncode == 0, ran.stderr
    assert str(library.FOLDER) not in ran.stdout


class TestThreads:
    """PyTorch's or their own: the same bits."""

    OUTPUTS = """
        import torch, treering as tr
        from treering.kernels.native import library
        torch.set_num_threads(3)
        torch.manual_seed(0)
        layer, x = tr.LSTM(30, 40), torch.randn(50, 13, 30)
        with torch.no_grad(), tr.use_kernels("native-lstm"):
            print(library.threads(), hash(layer(x)[0].numpy().tobytes()))
        """

    def outputs(self, **environment: str) -> tuple[str, str]:
        ran = script(self.OUTPUTS, PYTHONHASHSEED="0", **environment)
        assert ran.returncode == 0, ran.stderr
        whose, bits = ran.stdout.rsplit(maxsplit=1)
        return whose, bits

    def test_of_pytorch(self):
        whose, bits = self.outputs()
        if not whose.startswith("PyTorch's (lib"):
            pytest.skip("this PyTorch has no OpenMP runtime that can be found")
        own, right = self.outputs(TREERING_THREADS="own")
        assert own == "their own"
        assert bits == right
        # Where the runtime has fewer to give, nothing waits for the others.
        assert self.outputs(OMP_THREAD_LIMIT="2")[1] == right

    def test_another_word_is_refused(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("TREERING_THREADS", "mine")
        with pytest.raises(ValueError, match="TREERING_THREADS='mine' is not known; write shared"):
            library.threads()


@pytest.mark.parametrize("whose", ["shared", "own"])
def test_a_forked_child_has_threads_of_its_own(whose: str):
    ran = script(
        """
        import os, sys, time
        import torch, treering as tr
        torch.set_num_threads(2)
        layer, x = tr.PRLSTM(3, 5), torch.randn(16, 4, 3)
        def outputs():
            with torch.no_grad(), tr.use_kernels("native-pr-lstm"):
                return layer(x)[0]
        before = outputs()
        child = os.fork()
        if child == 0:
            os._exit(0 if outputs().equal(before) else 3)
        for _ in range(600):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            time.sleep(0.1)
        else:
            os.kill(child, 9)
            sys.exit("the child hangs")
        assert outputs().equal(before)
        sys.exit(os.waitstatus_to_exitcode(status))
        """,
        TREERING_THREADS=whose,
    )
    assert ran.returncode == 0, ran.stderr


def test_without_a_library_everything_runs_and_says_what_it_lacks(tmp_path: Path):
    package = tmp_path / "treering"
    shutil.copytree(
        Path(tr.__file__).parent, package, ignore=shutil.ignore_patterns("*.so", "*.h", "*.cpp")
    )
    note = package / "kernels" / "native" / "not_built.txt"
    note.write_text("no C++ compiler: no c++ on the PATH\n", encoding="utf-8")
    ran = script(
        """
        import torch, treering as tr
        from treering.cli import main
        layer, x = tr.PRLSTM(3, 5), torch.randn(16, 4, 3)
        print(tr.__file__)
        print(tr.explain(layer, x))
        try:
            with tr.use_kernels("native-pr-lstm"):
                layer(x)
        except ValueError as error:
            print(error)
        main(["doctor", "--json"])
        """,
        PYTHONPATH=str(tmp_path),
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(str(package))
    why = "native kernels were not built: no C++ compiler: no c++ on the PATH; run `make native`"
    assert ran.stdout.count(why) >= 3
    assert f'"native": "none: {why}' in ran.stdout
