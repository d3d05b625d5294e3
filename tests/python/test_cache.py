"""compile_region: from memory, from disk, compiled; damage, crashes, folders that cannot be used."""

import shlex
import subprocess
import threading
import warnings
from pathlib import Path

import pytest

from gossamer.compiler import cache
from gossamer.compiler.compile import compile_region, emit, forget_regions
from gossamer.compiler.library import Artifact, Library, library
from gossamer.errors import CacheWarning, CompileError, UnsupportedError
from handwritten import crash, elementwise, one_instruction

OPT = library().path.resolve().parents[1] / "bin" / "gossamer-opt"


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("GOSSAMER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_warned", set())
    forget_regions()
    yield tmp_path / "cache"
    forget_regions()


def entries(folder: Path) -> list[Path]:
    return [path for path in folder.glob("kernels/*/*") if path.suffix != ".lock"]


def never() -> str:
    raise AssertionError("compiled anew")


def test_memory_then_disk(folder):
    first = compile_region("key", elementwise)
    assert first.origin == "compiled"
    assert compile_region("key", never) is first
    forget_regions()
    assert compile_region("key", never).origin == "disk"
    assert len(entries(folder)) == 1


def test_another_key_is_another_kernel(folder):
    assert compile_region("one", elementwise) is not compile_region("two", elementwise)
    assert len(entries(folder)) == 2


@pytest.mark.parametrize(
    "changes",
    [{"version": "0.1.0 another build"}, {"host_features": "+sse2"}, {"host_cpu": "x86-64", "host_features": ""}],
    ids=["build", "features", "processor"],
)
def test_another_compiler_or_processor_is_another_key(monkeypatch, changes):
    compile_region("key", elementwise)
    forget_regions()
    for attribute, value in changes.items():
        monkeypatch.setitem(library().__dict__, attribute, value)  # where cached_property keeps it
    assert compile_region("key", elementwise).origin == "compiled"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:10],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:-100] + bytes([data[-100] ^ 1]) + data[-99:],
        lambda data: b"x" + data[1:],
        lambda data: bytes(len(data)),
    ],
    ids=["empty", "header cut", "end cut", "longer", "bit flipped", "magic", "zeros"],
)
def test_a_damaged_entry_is_rebuilt(folder, damage):
    compile_region("key", elementwise)
    [entry] = entries(folder)
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    forget_regions()
    assert compile_region("key", elementwise).origin == "compiled"
    assert entry.read_bytes() == whole


@pytest.mark.parametrize(
    "artifact",
    [
        Artifact('{"entry": "gs_entry", "args": [], "results": []}', b"no object"),
        Artifact('{"entry": "gs_entry"}', b"no object"),
        Artifact("no JSON", b"no object"),
    ],
)
def test_a_whole_entry_of_no_use_is_rebuilt(folder, artifact):
    compile_region("key", elementwise)
    [entry] = entries(folder)
    entry.write_bytes(cache._encode(artifact))
    forget_regions()
    assert compile_region("key", elementwise).origin == "compiled"


def test_nothing_is_left_beside_the_entries(folder):
    compile_region("key", elementwise)
    assert not [path for path in folder.rglob("*") if path.name.startswith(".new-")]


def test_a_folder_that_cannot_be_used_costs_one_warning(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GOSSAMER_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.warns(CacheWarning, match=r"cannot be used .* GOSSAMER_CACHE_DIR") as caught:
        assert compile_region("one", elementwise).origin == "compiled"
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compile_region("two", elementwise).origin == "compiled"


def test_a_full_disk_costs_one_warning(monkeypatch, folder):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "write_atomically", full)
    with pytest.warns(CacheWarning, match="No space left on device"):
        assert compile_region("key", elementwise).origin == "compiled"
    assert not entries(folder)


def test_threads_that_want_the_same_kernel_compile_it_once():
    texts = []

    def make_text():
        texts.append(elementwise())
        return texts[-1]

    threads = [threading.Thread(target=compile_region, args=("key", make_text)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 1


REFUSED = "module {\n  llvm.func @f() {\n    llvm.return %x : i32\n  }\n}"
UNSELECTABLE = one_instruction('llvm.call_intrinsic "llvm.nvvm.barrier.cta.sync.aligned.all"(%x) : (i32) -> ()')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (REFUSED, "refused this region:\nregion:3:17: error: use of undeclared SSA value name"),
        (UNSELECTABLE, r"crashed \(this process is unharmed\):\nLLVM gave up: Cannot select"),
        (crash("abort"), "the compiler crashed: Aborted"),
    ],
)
def test_a_failed_compile_keeps_its_input(folder, text, message):
    with pytest.raises(CompileError, match=message) as caught:
        compile_region("key", lambda: text)
    assert caught.value.reproducer is not None
    assert caught.value.reproducer.parent == folder / "failed"
    assert caught.value.reproducer.read_text() == text
    assert not entries(folder)
    assert compile_region("key", elementwise).origin == "compiled"


@pytest.mark.skipif(not OPT.exists(), reason="gossamer-opt is in a build folder only")
@pytest.mark.parametrize(
    ("text", "message"), [(REFUSED, "use of undeclared SSA value name"), (UNSELECTABLE, "Cannot select")]
)
def test_the_command_that_is_printed_reproduces_it(text, message):
    with pytest.raises(CompileError) as caught:
        compile_region("key", lambda: text)
    command = shlex.split(str(caught.value).split("To reproduce it: ")[1])
    assert command.pop(0) == "gossamer-opt"
    result = subprocess.run([OPT, *command], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert message in result.stderr


def test_the_input_is_kept_even_without_a_cache_folder(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GOSSAMER_CACHE_DIR", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.warns(CacheWarning), pytest.raises(CompileError) as caught:
        compile_region("key", lambda: REFUSED)
    assert caught.value.reproducer is not None
    assert caught.value.reproducer.read_text() == REFUSED


def test_an_error_while_importing_passes_through():
    def make_text():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compile_region("key", make_text)
    assert compile_region("key", elementwise).origin == "compiled"


def test_emit():
    assert "define" in emit(elementwise(), "llvm")
    assert "zmm" not in emit(elementwise(), "asm", target="x86-64")
    with pytest.raises(UnsupportedError, match="did you mean 'lower'"):
        emit(elementwise(), "lowre")
    with pytest.raises(UnsupportedError, match="NVIDIA"):
        emit(elementwise(), "asm", target="sm_90a")
    with pytest.raises(CompileError, match="unknown processor 'z80'"):
        emit(elementwise(), "asm", target="z80")


def test_a_library_is_told_from_another_build(monkeypatch):
    assert isinstance(library(), Library)
    assert library() is library()
