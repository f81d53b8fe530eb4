# Two commands do everything: 'make demo' and 'make test'. Each sets up .venv from nothing when it has to.
# Needs make and Python 3.11 or newer; the browser test also needs Chromium (Debian: apt-get install chromium).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
WORKERS ?= 2
RESULTS := results

# One thread for each process: the tensors are small, and the tests and runs use processes.
export OMP_NUM_THREADS := 1

.PHONY: demo test test-all test-floors test-313 mutants lint docs format notebooks picture clean

demo: $(VENV)/.base
	@mkdir -p $(RESULTS)
	$(BIN)/qflsec matrix run quickstart --store $(RESULTS)/quickstart.sqlite --report $(RESULTS)/quickstart.html
	@echo "The report is $(RESULTS)/quickstart.html: open it in a browser."

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "slow or not slow" --cov --cov-report=term-missing:skip-covered

# the lowest versions that pyproject.toml allows, in a virtual environment of their own
test-floors:
	$(PYTHON) -m venv .venv-floors
	$(PYTHON) tests/floors.py > .venv-floors/floors.txt
	.venv-floors/bin/python -m pip install --quiet -c .venv-floors/floors.txt torch
	.venv-floors/bin/python -m pip install --quiet -c .venv-floors/floors.txt -e '.[dev,data,cluster,dp-accounting,aer,qiskit-ml]'
	.venv-floors/bin/python -m pytest -n $(WORKERS) --dist worksteal

# another Python than the one of 'make test'
test-313:
	python3.13 -m venv .venv-313
	.venv-313/bin/python -m pip install --quiet -c constraints.txt torch
	.venv-313/bin/python -m pip install --quiet -c constraints.txt -e '.[dev,data,cluster,dp-accounting,aer,qiskit-ml]'
	.venv-313/bin/python -m pytest -n $(WORKERS) --dist worksteal

# a seeded sample of faults, each made on purpose: does a test notice? (about an hour; options in MUTANTS)
mutants: $(VENV)/.dev
	$(PIP) -e '.[mutants]'
	rm -rf mutants
	$(BIN)/python tests/mutation/sample.py $(MUTANTS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --quiet --strict --site-dir $(CURDIR)/$(VENV)/site

# the pages of docs/, and a reference made from the docstrings and the commands
docs: $(VENV)/.dev
	$(BIN)/mkdocs build --quiet --strict
	$(BIN)/python -m webbrowser -t file://$(CURDIR)/site/index.html

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# the picture in the README, from a run that is made now
picture: $(VENV)/.dev demo
	$(BIN)/python docs/quickstart_png.py $(RESULTS)/quickstart.html docs/quickstart.png

# The scripts are what is edited; their notebooks are made and run again from them.
notebooks: $(VENV)/.dev
	$(BIN)/jupytext --quiet --update --to ipynb notebooks/[0-9]*.py
	$(BIN)/jupyter execute --inplace notebooks/*.ipynb
	$(BIN)/python notebooks/student_edition.py

clean:
	rm -rf $(VENV) .venv-* $(RESULTS) mutants site build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "qflsec needs Python 3.11 or newer; got $$($(PYTHON) --version). Name one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first and alone, so that no other requirement draws in another build of it
$(VENV)/.torch: $(VENV)/bin/python constraints.txt
	$(PIP) torch
	@touch $@

$(VENV)/.base: $(VENV)/.torch pyproject.toml
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(PIP) -e '.[dev,data,cluster,dp-accounting,aer,qiskit-ml]'
	@touch $@
