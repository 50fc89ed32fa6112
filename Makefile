# Each target wraps plain commands that the README shows too.
PYTHON ?= python3
ACTIVE := .venv/bin
STORE ?= runs/quickstart
PROCESSES ?= 2

.PHONY: quickstart install install-dev lint check test test-slow clean

quickstart: .venv/installed  ## train both families on a grid, fit laws, write the report
	$(ACTIVE)/chemscale sweep tune_jobs/quickstart.py --store $(STORE)
	$(ACTIVE)/chemscale report $(STORE) --out report

install: .venv/installed
install-dev: .venv/installed-dev

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(ACTIVE)/pip install --quiet -c constraints.txt -e .
	touch $@

.venv/installed-dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(ACTIVE)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch .venv/installed $@

lint: .venv/installed-dev  ## lint, format, import contracts, types
	$(ACTIVE)/ruff check --no-cache .
	$(ACTIVE)/ruff format --no-cache --check .
	$(ACTIVE)/lint-imports
	$(ACTIVE)/pyright

check: lint  ## that and the fast tests
	$(ACTIVE)/pytest -n $(PROCESSES) -m "not slow"

test: .venv/installed-dev  ## all tests
	$(ACTIVE)/pytest -n $(PROCESSES)

test-slow: .venv/installed-dev  ## what check leaves out
	$(ACTIVE)/pytest -n $(PROCESSES) -m "slow and not chaos"

clean:
	rm -rf .venv build *.egg-info
