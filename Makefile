# Everything happens in .venv; choose another Python with `make PYTHON=python3.12 ...`.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= $(shell python3.11 --version >/dev/null 2>&1 && echo python3.11 || echo python3)
INSTALLED := .venv/installed
# Without compiled modules every program takes twice as long to start; some containers turn them off.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test docs lint format clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s%s\n", $$1, $$2 }' Makefile

install: $(INSTALLED)  ## create .venv with the package and all it needs

$(INSTALLED): pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	@echo "Installing into .venv; the first time this downloads PyTorch and takes some minutes."
	.venv/bin/python -m pip install --progress-bar off --disable-pip-version-check -r requirements.txt -e '.[dev,docs]' \
		| awk '/^(Collecting|Installing|Successfully)/ { print substr($$0, 1, 100); fflush() }'
	@touch $@

demo: install  ## generate a small data set, train on it, evaluate, and draw what is found
	.venv/bin/dino-detector demo

test: install  ## run the tests, in up to four processes
	.venv/bin/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

docs: install  ## build the pages into build/site
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

lint: install  ## check style and formatting
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

format: install  ## format and sort imports
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

clean:  ## remove .venv and caches; outputs stay
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache
	find dino_detector tests benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +
