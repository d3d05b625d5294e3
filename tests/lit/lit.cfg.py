"""lit's configuration: IR and code as text, checked by FileCheck."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import lit.formats

root = Path(__file__).resolve().parents[2]


def llvm_bin():
    """The folder of LLVM 22's own tools (FileCheck, not)."""
    for name in ("llvm-config-22", "llvm-config"):
        found = shutil.which(name)
        if found:
            return subprocess.check_output([found, "--bindir"], text=True).strip()
    lit_config.fatal("no llvm-config-22: apt-get install llvm-22-dev")  # noqa: F821
    return None


build = Path(lit_config.params.get("build", root / "build"))  # noqa: F821
opt = build / "bin" / "gossamer-opt"
if not opt.exists():
    lit_config.fatal(f"{opt} is not built: make build")  # noqa: F821

config.name = "gossamer"  # noqa: F821
config.test_format = lit.formats.ShTest(execute_external=False)  # noqa: F821
config.suffixes = [".mlir", ".py"]  # noqa: F821
config.excludes = ["lit.cfg.py"]  # noqa: F821
config.test_source_root = Path(__file__).parent  # noqa: F821
config.test_exec_root = build / "tests" / "lit"  # noqa: F821
config.substitutions += [  # noqa: F821
    ("%gossamer-opt", str(opt)),
    ("%python", sys.executable),
]
config.environment["PATH"] = os.pathsep.join([str(opt.parent), llvm_bin(), os.environ["PATH"]])  # noqa: F821
config.environment["PYTHONPATH"] = str(root / "python")  # noqa: F821
config.environment["HOME"] = os.environ.get("HOME", "/")  # noqa: F821
# The assembler of the wheel nvidia-cuda-nvcc or of a CUDA toolkit: kernels are assembled without a GPU.
wheels = Path(sysconfig.get_path("purelib")) / "nvidia"
ptxas = next(map(str, wheels.glob("*/bin/ptxas")), None) or shutil.which("ptxas")
if ptxas:
    config.available_features.add("ptxas")  # noqa: F821
    config.substitutions.append(("%ptxas", f"{ptxas} -arch=sm_90a -v -O3"))  # noqa: F821
