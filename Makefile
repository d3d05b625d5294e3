# make demo | test | fuzz | wheel | lint | format | bench | build | clean
#
# Each sets up what it needs on a fresh Debian 12 machine (system packages, .venv, the library), and nothing twice.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
CC := clang-22
CXX := clang++-22
BUILD := build
PY := .venv/bin/python

.PHONY: demo test fuzz wheel lint format bench build clean lit pytest clang-format system-packages

test: lit pytest

lit: build .venv/.ready
	.venv/bin/lit -sv tests/lit

pytest: build .venv/.ready
	$(PY) -m pytest -n auto --dist worksteal

# CASES=1000 MINUTES=10 SEED=1: how many, for how long, which ones; a run goes on where the last one with its seed stopped.
CASES ?= 100000
MINUTES ?= 0
SEED ?= 0
fuzz: build .venv/.ready
	nice $(PY) -m tests.fuzz --cases $(CASES) --minutes $(MINUTES) --seed $(SEED) --jobs $(shell nproc)

demo: build .venv/.ready
	$(PY) examples/sentence_encoder.py

bench: build .venv/.ready
	$(PY) -m benchmarks

build: $(BUILD)/build.ninja .venv/.ready
	ninja -C $(BUILD)
	@mkdir -p python/gossamer/lib
	@ln -sfn ../../../$(BUILD)/lib/libgossamer.so python/gossamer/lib/libgossamer.so

wheel: .venv/.ready | system-packages
	$(PY) -m build --wheel --no-isolation --outdir dist

CXX_SOURCES = $(shell git ls-files '*.cpp' '*.h')
lint: .venv/.ready clang-format
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	clang-format-22 --dry-run -Werror $(CXX_SOURCES)
	.venv/bin/pyright

format: .venv/.ready clang-format
	.venv/bin/ruff check --fix-only .
	.venv/bin/ruff format .
	clang-format-22 -i $(CXX_SOURCES)

clang-format: | system-packages
	@tools/setup/packages.sh clang-format-22

clean:
	rm -rf $(BUILD) dist python/gossamer/lib

$(BUILD)/build.ninja: CMakeLists.txt | system-packages
	cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=Release \
	  -DCMAKE_C_COMPILER=$(CC) -DCMAKE_CXX_COMPILER=$(CXX) \
	  -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache

# The package is imported from python/, by a path file, so that an edit needs no install.
.venv/.ready: requirements.txt | system-packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Gossamer needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install -q "$$(grep '^torch==' requirements.txt)"
	$(PY) -m pip install -q -r requirements.txt
	echo "$(CURDIR)/python" > "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/gossamer-checkout.pth"
	touch $@

system-packages:
	@PYTHON=$(PYTHON) tools/setup/packages.sh
