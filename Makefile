# Every target makes .venv and installs into it first; all are safe to run again.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3; do $$p -c "" 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# One process per core, each with one thread and about 1.5 GiB. `make test TESTS=parity_tests/tests/photo` runs one wing.
WORKERS ?= auto
TESTS ?= parity_tests
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal

.PHONY: demo test test-all quick check docs format picture install clean

demo: install
	$(BIN)/toonport demo --out out

# The whole suite; of the longest tests (planted bugs, families by modes) the day's share of cases.
test: install
	$(PYTEST) $(TESTS)

# Every case of every test.
test-all: install
	$(PYTEST) --all $(TESTS)

# What a change most often breaks, in three minutes.
quick: install
	$(PYTEST) -m quick $(TESTS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation site, into site/; every link is checked. It loads nothing from elsewhere.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The picture of a report in README.md.
picture: install
	$(BIN)/python -m parity_tests.tests.draw_report

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/toonport fetch selfie_segmentation || echo "note: photos cannot be cut out until 'toonport fetch selfie_segmentation' has run online"
	touch $@

clean:
	rm -rf $(VENV) out build site *.egg-info
