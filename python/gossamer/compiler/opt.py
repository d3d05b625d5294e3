"""The `gossamer-opt` command of the wheel: the optimizer driver that is inside libgossamer.so."""

import ctypes
import sys

from gossamer.compiler.library import library


def main() -> int:
    """Runs gossamer-opt on the command line's arguments and returns its exit status."""
    arguments = [argument.encode() for argument in ["gossamer-opt", *sys.argv[1:]]]
    run = ctypes.CDLL(str(library().path)).gs_opt_main
    return run(len(arguments), (ctypes.c_char_p * (len(arguments) + 1))(*arguments))


if __name__ == "__main__":
    sys.exit(main())
