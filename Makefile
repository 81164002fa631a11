# `make demo` does the main job on real data, `make test` runs every test. Each sets up all it needs.
PYTHON ?= python3.11
# TensorFlow 1.15 needs Python 3.7: found as python3.7, through pyenv, or named here
PYTHON37 ?= $(shell python3.7 -c 'import sys; print(sys.executable)' 2>/dev/null || ls $$(pyenv root 2>/dev/null)/versions/3.7.*/bin/python 2>/dev/null | tail -n 1)
BIN := .venv/bin
# what JAX compiles for one test, others need not compile again
JAX_CACHE := JAX_COMPILATION_CACHE_DIR=$(CURDIR)/build/jax JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
  JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
TF1 := .venv-tf1/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup chromium environments demo test test-main test-keras test-flax test-tf1 lint bench bench-tf1 readme clean

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt CMakeLists.txt $(wildcard src/symmetric_layers/torch/kernels/native/*)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv-tf1/installed: constraints-tf1.txt
	test -x $(TF1)/python || $(PYTHON37) -m venv .venv-tf1
	$(TF1)/python -m pip install --quiet --no-compile --constraint constraints-tf1.txt tensorflow pytest pytest-xdist scikit-learn
	touch $@

# for the test that opens the report in a browser, and keeps what it looks like in artifacts/
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	  { test "$$(id -u)" = 0 && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } \
	    >/dev/null 2>&1 || \
	  echo "No chromium, and none can be installed: the report is not opened in a browser."

# all that the tests need; with -j side by side
environments: setup chromium $(if $(PYTHON37),.venv-tf1/installed)

demo: setup
	$(BIN)/symmetric-layers compare --out compare-out

test: test-main test-keras test-flax test-tf1

test-main: setup chromium
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

test-keras: setup
	KERAS_BACKEND=tensorflow OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto tests/keras
	$(JAX_CACHE) KERAS_BACKEND=jax OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto tests/keras
	KERAS_BACKEND=torch OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto tests/keras

test-flax: setup
	$(JAX_CACHE) JAX_ENABLE_X64=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto tests/flax

ifeq ($(PYTHON37),)
test-tf1:
	@echo "SKIPPED: the TensorFlow 1.15 tests need Python 3.7, and none was found. Name one with PYTHON37=/path/to/python3.7."
else
test-tf1: .venv-tf1/installed
	PYTHONPATH=src OMP_NUM_THREADS=1 $(TF1)/python -m pytest -n auto -c tests/tf1/pytest.ini --rootdir tests tests/tf1 tests/test_orbits.py
endif

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python benchmarks/layers.py
	$(BIN)/python benchmarks/folding.py --write
	$(BIN)/python benchmarks/choices.py --write
	$(BIN)/python benchmarks/conversion.py --write
	for backend in tensorflow jax torch; do KERAS_BACKEND=$$backend $(BIN)/python benchmarks/keras_layers.py; done
	$(BIN)/python benchmarks/flax_layers.py
	test -z "$(PYTHON37)" || $(MAKE) bench-tf1

# scores of this commit: nothing that was trained before is taken up again
readme: setup
	rm -rf compare-out
	$(MAKE) demo
	$(BIN)/python benchmarks/write_readme.py

bench-tf1: .venv-tf1/installed
	PYTHONPATH=src $(TF1)/python benchmarks/tf1_layers.py

clean:
	rm -rf .venv .venv-tf1 build dist compare-out artifacts .pytest_cache .mypy_cache .ruff_cache .hypothesis
