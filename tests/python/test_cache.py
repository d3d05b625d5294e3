"""compile_region: from memory, from disk, compiled; damage, crashes, folders that cannot be used."""

import os
import shlex
import signal
import subprocess
import threading
import time
import traceback
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


def test_what_is_in_the_place_of_an_entry_is_replaced(folder):
    compile_region("key", elementwise)
    [entry] = entries(folder)
    for put in (lambda: (entry.mkdir(), (entry / "file").touch()), lambda: entry.symlink_to(entry)):
        entry.unlink()
        put()
        forget_regions()
        assert compile_region("key", elementwise).origin == "compiled"
        forget_regions()
        assert compile_region("key", never).origin == "disk"


def test_a_folder_that_is_only_read_serves_what_it_has(monkeypatch, folder):
    compile_region("key", elementwise)
    forget_regions()

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    for name in ("utime", "replace", "open"):
        monkeypatch.setattr(cache.os, name, refused)
    monkeypatch.setattr(cache, "write_atomically", refused)
    monkeypatch.setattr(Path, "mkdir", refused)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compile_region("key", never).origin == "disk"
    with pytest.warns(CacheWarning, match="Permission denied") as caught:
        assert compile_region("other", elementwise).origin == "compiled"
    assert len(caught) == 1


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
    assert ".target sm_90a" in emit(elementwise(), "ptx", target="sm_90a")
    with pytest.raises(UnsupportedError, match="NVIDIA"):
        emit(elementwise(), "ptx")
    with pytest.raises(CompileError, match="unknown processor 'z80'"):
        emit(elementwise(), "asm", target="z80")


def test_a_library_is_told_from_another_build(monkeypatch):
    assert isinstance(library(), Library)
    assert library() is library()


def payload(number: int, size: int = 100_000) -> Artifact:
    """A made-up kernel whose bytes all say which one it is."""
    return Artifact(f'{{"number": {number}}}', bytes([number % 251]) * size)


def in_processes(count: int, work) -> list[int]:
    """Forks, runs `work(number)` in each child, and returns how they ended."""
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            try:
                work(number)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def test_sixteen_processes_write_and_read_at_once(folder):
    digests = [f"{number:064x}" for number in range(4)]

    def work(number: int) -> None:
        disk = cache.DiskCache(folder, limit=1 << 30)
        for turn in range(40):
            which = (number + turn) % 4
            if turn % 2:
                with disk.lock(digests[which]):
                    disk.store(digests[which], payload(which))
            found = disk.load(digests[which])
            assert found in (None, payload(which))

    assert in_processes(16, work) == [0] * 16
    disk = cache.DiskCache(folder)
    assert [disk.load(digest) for digest in digests] == [payload(number) for number in range(4)]


def test_sixteen_processes_compile_each_kernel_once(folder):
    said = folder.parent / "compiled"
    said.touch()
    library()

    def work(number: int) -> None:
        def make_text() -> str:
            with said.open("a") as file:
                file.write(f"{number % 3}\n")
            return elementwise()

        region = compile_region(f"key {number % 3}", make_text)
        assert region.signature.entry == "gs_entry"

    assert in_processes(16, work) == [0] * 16
    assert sorted(said.read_text().split()) == ["0", "1", "2"]
    assert len(entries(folder)) == 3


def test_killed_in_the_middle_of_a_write(folder):
    """Nothing of a write that was cut off is seen, and the lock is free again."""
    digest, disk = "ab" * 32, cache.DiskCache(folder)

    def die_writing(cut: int) -> None:
        class Dying:
            def __init__(self, file):
                self.file = file

            def __enter__(self):
                return self

            def __exit__(self, *_):
                self.file.close()

            def write(self, data: bytes) -> None:
                self.file.write(data[: len(data) * cut // 4])
                self.file.flush()
                os.kill(os.getpid(), signal.SIGKILL)

        opened = os.fdopen
        cache.os.fdopen = lambda *args: Dying(opened(*args))
        with disk.lock(digest):
            disk.store(digest, payload(2))

    for before in (None, payload(1)):
        if before is not None:
            disk.store(digest, before)
        assert in_processes(5, die_writing) == [-signal.SIGKILL] * 5
        assert disk.load(digest) == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with disk.lock(digest):
            disk.store(digest, payload(3))
    assert disk.load(digest) == payload(3)
    for left in folder.glob("kernels/ab/.new-*"):
        os.utime(left, (0, 0))
    disk.store(digest, payload(4))
    assert not list(folder.glob("kernels/ab/.new-*"))


def test_killed_at_any_moment(folder):
    digest, disk = "cd" * 32, cache.DiskCache(folder)
    for attempt in range(10):
        child = os.fork()
        if child == 0:
            while True:
                disk.store(digest, payload(attempt, 2_000_000))
        time.sleep(0.004 * attempt)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = disk.load(digest)
        assert found is None or found == payload(found.object[0], 2_000_000)


def test_what_was_not_used_for_longest_goes(folder):
    disk = cache.DiskCache(folder, limit=1 << 30)
    digests = [f"{number:02x}" + "0" * 62 for number in range(5)]
    for age, digest in enumerate(digests[:4]):
        disk.store(digest, payload(age))
        os.utime(disk.path(digest), (1000.0 + age, 1000.0 + age))
    (folder / "failed").mkdir()
    (folder / "failed" / "old.mlir").write_text("module {}")
    os.utime(folder / "failed" / "old.mlir", (999.0, 999.0))
    (folder / "mine").mkdir()
    (folder / "mine" / "text").write_text("not of the cache")
    os.utime(folder / "mine" / "text", (1.0, 1.0))
    assert disk.load(digests[0]) == payload(0)  # now the one that was used last
    disk.limit = 350_000
    disk.store(digests[4], payload(4))
    kept = [disk.load(digest) is not None for digest in digests]
    assert kept == [True, False, False, True, True]
    assert not (folder / "failed" / "old.mlir").exists()
    assert (folder / "mine" / "text").exists()


def test_the_size_can_be_set(monkeypatch):
    for text, size in [("0", 0), ("123", 123), ("5k", 5 << 10), ("500M", 500 << 20), ("2 GiB", 2 << 30)]:
        monkeypatch.setenv("GOSSAMER_CACHE_SIZE", text)
        assert cache.size_limit() == size
    monkeypatch.setenv("GOSSAMER_CACHE_SIZE", "plenty")
    with pytest.warns(CacheWarning, match="'plenty' is no size such as 500M"):
        assert cache.size_limit() == 1 << 30
    monkeypatch.delenv("GOSSAMER_CACHE_SIZE")
    assert cache.size_limit() == 1 << 30


def test_no_room_at_all(monkeypatch, folder):
    monkeypatch.setenv("GOSSAMER_CACHE_SIZE", "0")
    assert compile_region("key", elementwise).origin == "compiled"
    assert not entries(folder)
    assert compile_region("key", never).origin == "compiled"
