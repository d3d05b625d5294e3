"""PTX through NVIDIA's assembler, which says what a GPU would make of it; no GPU is needed."""

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import torch


@cache
def assembler() -> str:
    """ptxas of the wheel nvidia-cuda-nvcc, or of CUDA's toolkit; skips the test if there is none."""
    installed = Path(torch.__file__).parent.parent / "nvidia"
    found = next(map(str, installed.glob("*/bin/ptxas")), None) or shutil.which("ptxas")
    if found is None:
        pytest.skip("there is no ptxas to assemble PTX (pip install nvidia-cuda-nvcc)")
    return found


def assemble(ptx: str, chip: str, folder: Path, what: object) -> None:
    """Asserts that PTX is assembled, and that no kernel spills registers."""
    source = folder / "kernels.ptx"
    source.write_text(ptx)
    command = [assembler(), "-v", f"-arch={chip}", str(source), "-o", str(folder / "kernels.cubin")]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, f"{what}: {said.stderr}"
    spilled = [line for line in said.stderr.splitlines() if "spill" in line and "0 bytes spill stores" not in line]
    assert not spilled, f"{what}: {spilled}"
