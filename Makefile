PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow docs site clean

demo: $(STAMP)  ## draw people and run the whole line on them
	$(BIN)/pipe demo

test: $(STAMP)  ## lint, types, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

test-slow: $(STAMP)  ## trainings on a real Dask cluster and a real Ray, killed processes
	$(BIN)/pytest -m slow -n 0

docs: $(STAMP)  ## write docs/cli.md anew from --help
	$(BIN)/python docs/make_cli.py

site: $(STAMP)  ## the documents as pages with pictures: site/index.html
	$(BIN)/python -m mkdocs build --strict --quiet
	@echo "open site/index.html"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]"
	touch $(STAMP)

clean:  ## remove the environment, the demo and the site
	rm -rf $(VENV) demo site
