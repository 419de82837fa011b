# `make demo` and `make test` install all they need into .venv. PYTHON names another interpreter (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CORES ?= all
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)
# An environment of its own, for the oldest versions of all packages.
OLDEST := .venv-oldest
# Miniature models use one thread at best: a test process of one thread for each core. A free one takes over tests of
# the others, so that none is left with a long file.
PYTEST := -m pytest -n logical --maxprocesses 16 --dist worksteal
QUICK := -m "not slow and not faults and not slurm"

.PHONY: help setup setup-slurm setup-test demo table resume test test-all test-faults test-gpu test-oldest test-slurm bench bench-gpu lint format clean

help:
	@echo "make demo      set up, run all 19 rows on generated texts with miniature models, print the table (no downloads)"
	@echo "make table     set up, run the real table (downloads 12 GB; hours on a CPU, minutes on a large GPU)"
	@echo "make resume    continue after a crash: unlock, then run what is incomplete (CONFIG=config/demo.yaml for the demo, TARGETS=row_11 for a row)"
	@echo "make test      set up and run the tests"
	@echo "make test-all  the tests with the long ones"
	@echo "make test-faults  the long tests: 2,000 fuzzed files, full disks, killed runs (hours: 20 demos are killed)"
	@echo "make setup-slurm  set up for workflow/profiles/slurm, on a cluster"
	@echo "make test-oldest  the tests with the oldest versions of all packages that pyproject.toml admits"
	@echo "make test-slurm   the tests on a SLURM of two nodes on this machine (root, Debian or Ubuntu)"
	@echo "make test-gpu     the tests of numbers on this machine's GPU"
	@echo "make bench     measure speed and memory at real dimensions (about half an hour)"
	@echo "make bench-gpu   time the whole table on this machine's GPU, in each precision"
	@echo "make lint      check the workflow, the code and its types; make format fixes the layout"
	@echo "make clean     remove the environments"

setup: $(VENV)/.installed
setup-test: $(VENV)/.installed-test
setup-slurm: $(VENV)/.installed-slurm

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: $(PYTHON) is older than Python 3.11; name a newer one, as in `make demo PYTHON=python3.12`")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing Snakemake, PyTorch and what they need into $(VENV) (some minutes the first time)"
	@$(PIP) install -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed requirements-test.lock
	@$(PIP) install -r requirements-test.lock
	@touch $@

$(VENV)/.installed-slurm: $(VENV)/.installed requirements-slurm.lock
	@$(PIP) install --no-deps -r requirements-slurm.lock
	@touch $@

demo: setup
	$(SNAKEMAKE) --configfile config/demo.yaml --quiet all
	@echo
	@cat results/demo/table.md

table: setup
	$(SNAKEMAKE)
	@cat results/table.md

resume: setup
	$(BIN)/snakemake $(TARGETS) --unlock $(if $(CONFIG),--configfile $(CONFIG))
	$(SNAKEMAKE) $(TARGETS) --rerun-incomplete $(if $(CONFIG),--configfile $(CONFIG))

test: setup-test
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) $(QUICK)

test-all: setup-test
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) -m "not faults and not slurm"

# GPT2_ABLATIONS_KILLS=3 kills fewer demos, GPT2_ABLATIONS_KILLS_ROWS=1,2,11 shorter ones.
test-faults: setup-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "faults or fuzz" --hypothesis-profile faults

# uv installs the oldest versions that pyproject.toml admits; the tests' own tools are new.
test-oldest:
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip --disable-pip-version-check --quiet install uv
	$(OLDEST)/bin/uv pip install --quiet --python $(OLDEST)/bin/python --resolution lowest-direct --editable .
	$(OLDEST)/bin/uv pip install --quiet --python $(OLDEST)/bin/python --editable ".[test]"
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python $(PYTEST) $(QUICK)

test-slurm: setup-test setup-slurm
	@tests/slurm/install.sh
	$(BIN)/python -m pytest -m slurm tests/slurm

# The tests of numbers on a GPU, and of what only a GPU has. The test of the hand-over between jobs needs the GPU alone.
test-gpu: export GPT2_ABLATIONS_TEST_DEVICE = cuda
test-gpu: setup-test
	$(BIN)/python -m pytest tests/gpu/test_hand_over.py
	GPT2_ABLATIONS_SHARE_GPUS=1 $(BIN)/python $(PYTEST) -n 2 tests/gpu/test_graphs.py tests/oracle tests/parity

lint: setup-test
	$(BIN)/snakemake --lint
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup-test
	$(BIN)/snakefmt Snakefile workflow
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m gpt2_ablations.settings.manual

clean:
	rm -rf $(VENV) $(OLDEST)

bench: setup-test
	$(BIN)/python -m tests.benchmarks --json tests/benchmarks/results.json

# The whole table on a GPU, in each precision; 12 GB of random weights are written to the folder of temporary files.
bench-gpu: setup-test
	$(BIN)/python -m tests.benchmarks.gpu --json tests/benchmarks/gpu.json
