# Sets everything up on first use. The same commands without make stand in README.md.
#   make discover     the main job: which order is best on the digits task (ARGS="--budget 5m" and so on)
#   make quick        the tests of a minute   make test     all tests but those that train for minutes
#   make slow         the tests that train for minutes
#   make lint         style and types         make docs     the documentation as a site, in site/
#   make figures      the pictures of the documentation, from the recorded runs
#   make notebook     examples/discover.ipynb, executed
#   make soak         kills and faults, at most five minutes
#   make clean        remove what make and the tests made
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
OUT ?= out/digits
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: setup discover quick test slow soak lint docs figures notebook clean

setup: $(VENV)/.dev-installed

discover: $(VENV)/.installed
	$(BIN)/ordercomp discover --out $(OUT) $(ARGS)

quick: $(VENV)/.dev-installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) -m 'not slow and not integration' $(ARGS)

test: $(VENV)/.dev-installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) $(ARGS)

slow: $(VENV)/.dev-installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow $(ARGS)

soak: $(VENV)/.dev-installed
	OMP_NUM_THREADS=1 $(BIN)/python tests/stress/soak.py --kills 30 --faults 10 --minutes 3 $(ARGS)

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.dev-installed
	$(BIN)/zensical build --strict

figures: $(VENV)/.dev-installed
	$(BIN)/python tools/figures.py

notebook: $(VENV)/.dev-installed
	$(BIN)/python tools/notebook.py

clean:
	rm -rf $(VENV) build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is not Python 3.11 or newer; name one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev-installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed
