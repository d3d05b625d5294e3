"""What goes wrong between the engine and NVIDIA's driver, with a driver that only remembers what it was called with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# A region for a made-up device: nothing runs, so that its arguments may point nowhere.
SETUP = """
import ctypes
import json
import os
import sys
import gossamer as gs
from gossamer.compiler.library import library
from gossamer.runtime.cuda import chip_of, machine_code

gpus = library().gpus
REGION = '''
#CSR = #sparse_tensor.encoding<{map = (i, j) -> (i : dense, j : compressed), posWidth = 32, crdWidth = 32}>
func.func @main(%a: tensor<?x?xf32, #CSR> {gossamer.fill = 0.0 : f32}) -> tensor<?x?xf32> {
  %0 = "gossamer.convert"(%a) {fill = 0.0 : f32} : (tensor<?x?xf32, #CSR>) -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}'''

def run(size, workspace=1 << 20):
    artifact = library().compile(REGION, chip="sm_90a")
    host = library().load(artifact.object, "gs_entry")
    module = gpus.load(b"code", artifact.kernels.count(".entry"), 0)
    error = ctypes.c_void_p()
    words = (ctypes.c_int64 * 11)(8, size + 1, 8, size, 8, size, size, size, 8, size, size)
    needed = gpus.run(module, host.address, words, None, 64, workspace, ctypes.byref(error))
    gpus.unload(module)
    return gpus.taken(error) if needed < 0 else needed

def wait(number):
    module = gpus.load(b"code", 0, 0)
    error, word = ctypes.c_void_p(), ctypes.c_int64(number)
    found = gpus.wait(module, None, ctypes.addressof(word), ctypes.byref(error))
    gpus.unload(module)
    return gpus.taken(error) if found < 0 else found

def attend(tiles, batch=2, chip="sm_90a", address=8, columns=64):
    step = 128 if chip == "sm_90a" else 64
    text = f'tile.attention @attention element(f16) head(64) blocks(128, {step}) chip("{chip}")\\n'
    artifact = library().compile(text, chip=chip)
    host = library().load(artifact.object, "gs_entry")
    module = gpus.load(artifact.kernels.encode() + b"\\0", 1, 0)
    error = ctypes.c_void_p()
    length = 128 * tiles
    strides = [4 * length * 64, length * 64, 64]
    words = [address] * 9 + [batch, 4, 4, length, length, columns] + strides * 4 + [0, 0, 0, 0, 0x3F800000]
    packed = (ctypes.c_int64 * len(words))(*words)
    done = gpus.run(module, host.address, packed, None, None, 0, ctypes.byref(error))
    gpus.unload(module)
    return gpus.taken(error) if done < 0 else done

def outcome(call, fails):
    os.environ["FAKE_CUDA"] = fails
    try:
        said = eval(call)
    except gs.GossamerError as error:
        said = f"{type(error).__name__}: {error}"
    try:
        fake = ctypes.CDLL("libcuda.so.1").fake_calls
    except OSError:
        return said, []
    fake.restype = ctypes.c_char_p
    return said, fake().decode().split()

print(json.dumps([outcome(call, fails) for call, fails in json.loads(sys.argv[1])], default=str))
"""

Outcome = tuple[str, list[str]]  # what was said, and what the driver saw


def outcomes(driver: Path, *programs: tuple[str, str]) -> list[Outcome]:
    """Runs (expression, what fails) one after the other in one process, with the libcuda.so.1 of a folder."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(driver), "GOSSAMER_CACHE_DIR": str(driver / "cache")}
    command = [sys.executable, "-c", SETUP, json.dumps(programs)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def built(folder: Path, *options: str) -> Path:
    """The folder of a libcuda.so.1."""
    source = Path(__file__).with_name("fake_libcuda.c")
    command = ["cc", "-shared", "-fPIC", "-w", *options, str(source), "-o", str(folder / "libcuda.so.1")]
    subprocess.run(command, check=True)
    return folder


def test_without_a_driver(tmp_path):
    (tmp_path / "libcuda.so.1").write_bytes(b"")  # found before any other
    [(said, _)] = outcomes(tmp_path, ("chip_of(0)", ""))
    assert said.startswith("CudaError: there is no NVIDIA driver: ")


def test_a_driver_older_than_what_is_called(tmp_path):
    [(said, _)] = outcomes(built(tmp_path, "-DOLD"), ("chip_of(0)", ""))
    assert said == "CudaError: the NVIDIA driver has no cuLinkAddData_v2; it is older than CUDA 11"


def test_a_driver_that_does_not_start(tmp_path):
    [(said, _)] = outcomes(built(tmp_path), ("chip_of(0)", "cuInit=100"))
    assert said == "CudaError: cuInit: ERROR_100: what it means"


MACHINE_CODE = "machine_code(library(), '.version 8.0', 0)"
PROGRAMS = {
    "good device": ("chip_of(0)", ""),
    "old device": ("chip_of(1)", ""),
    "no device": ("chip_of(2)", ""),
    "old driver": ("gpus.assemble('.version 8.0\\n', 0)", "cuLinkAddData=222"),
    "bad code": ("gpus.assemble('', 0)", "cuLinkComplete=218"),
    "assembled": (MACHINE_CODE, ""),
    "kept": (MACHINE_CODE, ""),
    "not loaded": ("run(100)", "cuModuleLoadData=209"),
    "no function": ("run(100)", "cuModuleGetFunction=500"),
    "not launched": ("run(100)", "cuLaunchKernel=701"),
    "run": ("run(100)", ""),
    "nothing to run": ("run(0)", ""),
    "no memory": ("run(100, 0)", ""),
    "written": ("wait(1 << 40)", ""),
    "not written": ("wait(-1)", ""),
    "captured": ("wait(-1)", "cuStreamQuery=900"),
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> dict[str, Outcome]:
    driver = built(tmp_path_factory.mktemp("driver"))
    return dict(zip(PROGRAMS, outcomes(driver, *PROGRAMS.values()), strict=True))


@pytest.mark.parametrize(
    ("program", "said"),
    {
        "good device": "sm_90a",
        "old device": "UnsupportedError: cuda:1 has compute capability 7.5; kernels are made for 8.0 and newer",
        "no device": "CudaError: cuDeviceGet(2): ERROR_101: what it means",
        "old driver": "CudaError: the driver is for CUDA 11.4, which is older than PTX 8.0 of these kernels "
        "(CUDA_ERROR_UNSUPPORTED_PTX_VERSION): a newer one is needed",
        "bad code": "CudaError: the driver's assembler: ERROR_218: what it means\nptxas: line 7: a bad instruction",
        "not loaded": "CudaError: cuModuleLoadData: ERROR_209: what it means",
        "written": 1 << 40,
        "not written": "all kernels are done, and none has said how much there is",
        "captured": "cuStreamQuery: ERROR_900: what it means",
        "no function": "CudaError: cuModuleGetFunction(kernel_0): ERROR_500: what it means",
    }.items(),
)
def test_what_is_said(ran, program, said):
    assert ran[program][0] == said


def test_a_launch_that_fails_names_kernel_and_call(ran):
    said, calls = ran["not launched"]
    assert said.startswith("cuLaunchKernel(kernel_0, ")
    assert said.endswith(" threads): ERROR_701: what it means")
    assert calls.count("cuLaunchKernel") == 1  # and nothing after it


def test_kernels_are_launched_if_there_is_something_to_do(ran):
    assert ran["run"][0] == ran["nothing to run"][0] == 0
    assert "cuLaunchKernel" in ran["run"][1]
    assert "cuLaunchKernel" not in ran["nothing to run"][1]


def test_memory_for_temporaries_is_asked_for_first(ran):
    needed, calls = ran["no memory"]
    assert needed >= 100 * 100 * 4
    assert "cuLaunchKernel" not in calls


def test_machine_code_is_kept(ran):
    assert ran["assembled"][0] == ran["kept"][0] == "b'machine code'"
    assert "cuLinkCreate" in ran["assembled"][1]
    assert "cuLinkCreate" not in ran["kept"][1]


TILES = {
    "few": ("attend(3)", ""),
    "many": ("attend(50)", ""),
    "no map": ("attend(3)", "cuTensorMapEncodeTiled=1"),
    "no shared memory": ("attend(3)", "cuFuncSetAttribute=1"),
    "not launched": ("attend(3)", "cuLaunchKernel=701"),
    "nothing": ("attend(3, 0)", ""),
    "other chip": ("attend(3, chip='sm_80', address=16)", ""),
    "other address": ("attend(3, chip='sm_80')", ""),
    "other columns": ("attend(3, chip='sm_80', address=16, columns=36)", ""),
}


@pytest.fixture(scope="module")
def attended(tmp_path_factory) -> dict[str, Outcome]:
    driver = built(tmp_path_factory.mktemp("tiles"))
    return dict(zip(TILES, outcomes(driver, *TILES.values()), strict=True))


def test_a_tile_program_has_maps_shared_memory_and_no_more_blocks_than_fit(attended):
    said, calls = attended["few"]
    assert said == 0
    # float16; columns, rows, heads, batch; bytes between rows, heads, batches; 64 columns of as many rows as are moved
    maps = [call for call in calls if call.startswith("map:")]
    assert maps[:3] == ["map:6:64,384,4,2:128,49152,196608:64,128"] * 3
    assert maps[3:] == ["map:6:64,384,4,2:128,49152,196608:64,64"]  # what a warpgroup stores
    grids = [call for program in ("few", "many") for call in attended[program][1] if call.startswith("grid:")]
    assert [grid.split(":")[1:3] for grid in grids] == [["24", "384"], ["132", "384"]]
    assert "cuFuncSetAttribute" in calls


@pytest.mark.parametrize(
    ("program", "said"),
    {
        "no map": r"cuTensorMapEncodeTiled(0x8, sizes 2, 4, 384, 64, strides 98304, 24576, 64, 128 rows): ERROR_1: ",
        "no shared memory": "cuFuncSetAttribute(kernel_0, ",
        "not launched": "cuLaunchKernel(kernel_0, 24 x 384 threads): ERROR_701: what it means",
    }.items(),
)
def test_a_tile_program_that_fails(attended, program, said):
    assert attended[program][0].startswith(said)
    assert ("cuLaunchKernel" in attended[program][1]) == (program == "not launched")


def test_a_tile_program_with_nothing_to_do(attended):
    said, calls = attended["nothing"]
    assert said == 0
    assert "cuLaunchKernel" not in calls


def test_a_tile_program_for_another_chip(attended):
    said, calls = attended["other chip"]
    assert said == 0
    assert not [call for call in calls if call.startswith("map:")]
    # The producer is one warp; two stages of queries, three of 64 keys and of their values, and barriers.
    [grid] = [call for call in calls if call.startswith("grid:")]
    assert grid.split(":")[1:3] == ["24", "288"]
    assert 2 * 16384 + 6 * 8192 < int(grid.split(":")[3]) < 2 * 16384 + 6 * 8192 + 512
    said, calls = attended["other address"]
    assert said == (
        "a tensor of tile programs has an address and strides that are multiples of 16 bytes, not 0x8 and 196608, "
        "49152, 128"
    )
    assert "cuLaunchKernel" not in calls
    said, calls = attended["other columns"]
    assert said == "a tensor of tile programs has a multiple of 8 columns on GPUs without tensor maps, not 36"
    assert "cuLaunchKernel" not in calls


def test_a_driver_without_tensor_maps(tmp_path):
    [(said, _)] = outcomes(built(tmp_path, "-DBEFORE_12"), ("attend(3)", ""))
    assert said == "the NVIDIA driver has no cuTensorMapEncodeTiled; it is older than CUDA 12"


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_was_taken_of_the_driver_it_got_back(ran, program):
    calls = ran[program][1]
    pairs = [
        ("cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease"),
        ("cuCtxPushCurrent", "cuCtxPopCurrent"),
        ("cuLinkCreate", "cuLinkDestroy"),
    ]
    if program != "not loaded":
        pairs.append(("cuModuleLoadData", "cuModuleUnload"))
    for taken, given in pairs:
        assert calls.count(taken) == calls.count(given)
