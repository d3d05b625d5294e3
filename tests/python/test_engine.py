"""The library through its C API: compiling, crashing, loading, threads."""

import ctypes
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
import torch

from gossamer.compiler import library as library_module
from gossamer.compiler.library import Failure, LibraryError, library
from handwritten import COUNT, ERF, PART, crash, elementwise, one_instruction


def run(text: str, x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Compiles an elementwise module, loads it and runs it on a vector."""
    kernel = library().load(library().compile(text).object, "gs_entry")
    out = torch.empty_like(x) if out is None else out
    packed = (ctypes.c_int64 * 4)(x.data_ptr(), x.numel(), out.data_ptr(), out.numel())
    kernel.call(ctypes.addressof(packed))
    return out


def test_version_names_the_build():
    assert re.fullmatch(r"\d+\.\d+\.\d+ llvm-22\.\d+\.\d+ [0-9a-f]{40}", library().version)


def test_host():
    assert library().host_cpu
    assert all(feature[0] in "+-" for feature in library().host_features.split(","))


def test_compiles_and_runs():
    x = torch.linspace(-3, 3, 1001)
    torch.testing.assert_close(run(elementwise(ERF), x), torch.erf(x))


def test_diagnostics_say_where():
    with pytest.raises(Failure) as caught:
        library().compile("module {\n  llvm.func @f() {\n    llvm.return %x : i32\n  }\n}")
    assert not caught.value.crashed
    assert "region:3:17: error: use of undeclared SSA value name" in caught.value.diagnostics


def test_errors_of_the_code_generator_come_back():
    asm = 'llvm.inline_asm has_side_effects "nonsense $0", "r" %x : (i32) -> ()'
    with pytest.raises(Failure, match="invalid instruction mnemonic 'nonsense'") as caught:
        library().compile(one_instruction(asm))
    assert not caught.value.crashed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpu": "pentium-nine"}, "unknown processor 'pentium-nine'"),
        ({"cpu": "x86-64", "features": "+warp"}, r"unknown processor feature '\+warp'"),
        ({"colour": "red"}, 'unknown key "colour"'),
        ({"stage": "asm"}, '"stage" is for gs_emit'),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(Failure, match=message):
        library().compile(elementwise(), **options)


@pytest.mark.parametrize(
    ("kind", "message"),
    [("abort", "Aborted"), ("segv", "Segmentation fault"), ("fatal", "a fatal error on demand"), ("overflow", "Segm")],
)
def test_a_crash_is_survived(kind, message):
    for _ in range(3):
        with pytest.raises(Failure, match=message) as caught:
            library().compile(crash(kind))
        assert caught.value.crashed
        assert library().compile(elementwise()).object


def test_what_llvm_cannot_select_is_survived():
    text = one_instruction('llvm.call_intrinsic "llvm.nvvm.barrier.cta.sync.aligned.all"(%x) : (i32) -> ()')
    with pytest.raises(Failure, match="Cannot select") as caught:
        library().compile(text)
    assert caught.value.crashed


def test_threads_compile_and_crash_at_once():
    outcomes: list[bool] = []

    def work(index: int):
        for _ in range(4):
            try:
                library().compile(crash("segv") if index % 2 else elementwise())
                outcomes.append(index % 2 == 0)
            except Failure as failure:
                outcomes.append(index % 2 == 1 and failure.crashed)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [True] * 24


@pytest.mark.parametrize(
    ("stage", "expected"), [("raise", "llvm.func"), ("lower", "llvm.func"), ("llvm", "define"), ("asm", "\t.text")]
)
def test_stages_can_be_printed(stage, expected):
    assert expected in library().emit(elementwise(), stage)


def test_an_unknown_symbol_is_an_error():
    text = "llvm.func @unheard_of()\nllvm.func @gs_entry() {\n  llvm.call @unheard_of() : () -> ()\n  llvm.return\n}"
    artifact = library().compile(text)
    with pytest.raises(LibraryError, match="unheard_of"):
        library().load(artifact.object, "gs_entry")


def test_what_is_no_object_is_an_error():
    with pytest.raises(LibraryError, match="not recognized as a valid object"):
        library().load(b"nothing of the kind", "gs_entry")


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1000, 4096])
@pytest.mark.parametrize("grain", [0, 1, 16, 5000])
def test_every_element_is_visited_once(size, grain):
    out = run(elementwise(COUNT, grain), torch.zeros(size), torch.zeros(size))
    assert (out == 1).all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_torchs_number_of_threads_is_honoured(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        parts = run(elementwise(PART, grain=10), torch.zeros(1000)).unique()
    finally:
        torch.set_num_threads(before)
    # one thread takes everything at once; several take pieces as they come to it, eight for each
    assert len(parts) == (1 if threads == 1 else 8 * threads)
    assert (parts % 10 == 0).all()


def test_openmp_must_be_in_the_process():
    c = ctypes.CDLL(str(library().path))
    assert c.gs_set_openmp(b"/nowhere/libgomp.so.1") == 1


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("GOSSAMER_LIBRARY", str(tmp_path / "none.so"))
    with pytest.raises(LibraryError, match=r"none\.so.*make build"):
        library()


def test_what_is_no_library_is_an_error(monkeypatch, tmp_path):
    path = tmp_path / "text.so"
    path.write_text("not a library")
    monkeypatch.setenv("GOSSAMER_LIBRARY", str(path))
    with pytest.raises(LibraryError, match="cannot load"):
        library()


def read_elf(*options: str) -> str:
    tool = shutil.which("readelf") or shutil.which("llvm-readelf-22")
    assert tool
    return subprocess.check_output([tool, "-W", *options, str(library().path)], text=True)


def test_the_library_is_self_contained():
    needed = set(re.findall(r"NEEDED.*\[(\S+)\.so", read_elf("-d")))
    assert needed <= {"libc", "libm", "libz", "libzstd", "ld-linux-x86-64", "libpthread", "libdl", "librt"}


def test_the_library_exports_its_c_api_only():
    symbols = [line.split() for line in read_elf("--dyn-syms").splitlines()]
    defined = {s[7].split("@")[0] for s in symbols if len(s) == 8 and s[4] in ("GLOBAL", "WEAK") and s[6] != "UND"}
    assert defined
    assert all(name.startswith("gs_") for name in defined)


@pytest.mark.parametrize("language", ["c", "c++"])
def test_the_header_is_plain_c(language):
    header = Path(__file__).resolve().parents[2] / "engine" / "include" / "gossamer-c.h"
    compiler = shutil.which("clang-22") or shutil.which("cc")
    assert compiler
    command = [
        compiler,
        "-x",
        language,
        "-std=c99" if language == "c" else "-std=c++17",
        "-Wall",
        "-Wextra",
        "-pedantic",
    ]
    subprocess.run([*command, "-Werror", "-fsyntax-only", "-include", header, "/dev/null"], check=True)


def test_the_packaged_path_is_in_the_package():
    assert library_module.PACKAGED.parts[-3:] == ("gossamer", "lib", "libgossamer.so")
