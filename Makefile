# Every target makes .venv and installs into it first; all are safe to run again.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3; do $$p -c "" 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# One process per core, each with one thread and about 1.5 GiB. `make test TESTS=parity_tests/tests/photo` runs one wing.
WORKERS ?= auto
TESTS ?= parity_tests
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal

.PHONY: demo test test-all test-gpu test-versions quick fuzz check docs format picture install lock audit clean

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

# Strange files and kills by chance, for up to an hour and a half; the day is the seed.
fuzz: install
	$(BIN)/python -m parity_tests.tests.hostile.fuzzing --cases 20000 --seconds 2700 --keep out/strange
	$(BIN)/python -m parity_tests.tests.hostile.killing --kills 60 --seconds 2700

# Layers, a network and a training step on a GPU, judged; writes the rows of docs/devices.md.
test-gpu: install
	$(BIN)/toonport doctor --device gpu --page docs/devices.md

# The quick suite in a fresh environment for each MindSpore and Python; `make test-versions VERSIONS=2.10/3.12` for one.
test-versions: install
	$(BIN)/python -m parity_tests.tests.prove_versions $(VERSIONS)

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

# requirements.lock holds every package with its hash, for the platform and the build of PyTorch that are tested most
# (CPython 3.11 on Linux x86-64, CPU); where these are not to be had, constraints.txt pins the main ones.
LOCK_FITS = $(BIN)/python -c "import platform as p, sys; sys.exit((sys.version_info[:2], sys.platform, p.machine()) != ((3, 11), 'linux', 'x86_64'))" \
	&& $(BIN)/python -m pip install --quiet --dry-run --no-deps "$$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements.lock)"

$(INSTALLED): pyproject.toml constraints.txt requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	if $(LOCK_FITS); then \
		$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements.lock && \
		$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .; \
	else \
		echo "note: requirements.lock is for another platform or build of PyTorch; installing by constraints.txt"; \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'; \
	fi
	$(BIN)/toonport fetch selfie_segmentation || echo "note: photos cannot be cut out until 'toonport fetch selfie_segmentation' has run online"
	touch $@

# Write requirements.lock anew from the ranges of pyproject.toml and the versions of constraints.txt.
lock: install
	test -x $(VENV)/audit/bin/uv || { $(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/pip install --quiet uv; }
	echo setuptools | $(VENV)/audit/bin/uv pip compile --quiet pyproject.toml - --extra dev --constraint constraints.txt \
		--generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links $(LOCK_OPTIONS) --output-file requirements.lock

# For information: what is installed (CycloneDX), and what is known against it.
audit:
	test -x $(VENV)/audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)/audit && \
		$(VENV)/audit/bin/pip install --quiet 'cyclonedx-bom>=7,<8' 'pip-audit>=2.9,<3'; }
	mkdir -p out
	$(VENV)/audit/bin/cyclonedx-py requirements requirements.lock --output-reproducible --output-file out/sbom.cdx.json
	$(VENV)/audit/bin/pip-audit --requirement requirements.lock --no-deps --disable-pip

clean:
	rm -rf $(VENV) out build site *.egg-info
