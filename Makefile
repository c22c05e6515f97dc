# Two commands: `make solve` and `make test`. Each sets up all it needs, then does its job.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: solve test tests test-cluster test-slurm package campaign docs lint types imports clean

solve: $(VENV)/.runtime
	$(BIN)/gridloom models pull smollm2-135m
	$(BIN)/gridloom solve quickstart

# mypy takes half a minute of one core, in which the tests of the first files run
test: lint imports
	$(MAKE) -j 2 types tests

# in the order of tests/conftest.py: the files that take longest first
tests: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# the longer runs on a Ray cluster of three nodes and under torchrun with two and four processes, all of this host
test-cluster: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow tests/runtime/cluster tests/runtime/training/test_ranks.py

# runs on a real Slurm of this host, which the test starts: root, and Debian's slurmctld, slurmd, slurm-client, munge
test-slurm: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slurm tests/runtime/cluster/test_slurm.py

# sdist and wheel in dist/, and the wheel in an environment of its own: the quickstart from an empty folder
package: $(VENV)/.dev
	rm -rf dist build
	$(BIN)/python -m build --outdir dist .
	rm -rf $(VENV)-package && $(PYTHON) -m venv $(VENV)-package
	$(VENV)-package/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(VENV)-package/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt dist/*.whl
	folder=$$(mktemp -d) && bin=$$(cd $(VENV)-package/bin && pwd) && cd $$folder && \
	  $$bin/gridloom models pull smollm2-135m && $$bin/gridloom solve quickstart && rm -rf $$folder

# kills, mutated specs, hostile files and a large ledger (docs/robustness.md); state and findings stay in .campaign
MINUTES ?= 60
SEED ?= 0
campaign: $(VENV)/.dev
	$(BIN)/python -m tests.campaign all --minutes $(MINUTES) --seed $(SEED)

# the pages of docs/ as a site in site/, with a reference made from the code; warnings are errors
docs: $(VENV)/.dev
	$(BIN)/mkdocs build --strict

lint: $(VENV)/.dev
	$(BIN)/ruff check gridloom tests benchmarks
	$(BIN)/ruff format --check gridloom tests benchmarks

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports

# torch first and by exact version: it finds a CPU wheel, where an open range would pull CUDA.
$(VENV)/.runtime: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt torch==2.13.0
	$(PIP) install -c constraints.txt -e .
	# an editable package is compiled when it is first imported, and never where PYTHONDONTWRITEBYTECODE is set
	$(BIN)/python -m compileall -q gridloom
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) install -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .gridloom build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
