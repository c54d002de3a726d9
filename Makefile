# `make demo` runs the main job, `make test` the tests; both set up .venv first, and touch nothing else.

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3,$(if $(shell $(p) -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] <= (3,12))' 2>/dev/null && echo ok),$(p))))
BIN := .venv/bin
# Whether .venv is what it should be is told by contents, not by times, which a checkout renews.
STAMP := .venv/installed-$(shell $(PYTHON) -c 'import hashlib, pathlib, sys; print("%d.%d" % sys.version_info[:2], hashlib.sha256(b"".join(pathlib.Path(name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))).hexdigest(), sep="-")')
# TensorRT's Python bindings without its libraries, which the tests hold the builder's calls to.
BINDINGS := .venv/tensorrt-10 .venv/tensorrt-11
REPOSITORY ?= model_repository
# Two workers that compute, and one that mostly waits for containers (tests/scheduling.py).
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadgroup --durations=10
# Of pages, links and anchors that are not there, --strict tells, but not with --quiet.
SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir
# ARGS are pytest's; WITHOUT names markers of tests to leave out: make test WITHOUT=docker ARGS=tests/test_cli.py
SELECTION := not gpu$(foreach marker,$(WITHOUT), and not $(marker))

.PHONY: help install demo prepared test test-all test-fresh durations check lint types schemas site format build serve bench schema docs clean

help:
	@echo "demo      train, build and serve handwritten digits; then real photos, with a page to look at"
	@echo "test      check, then the tests, the real server included"
	@echo "test-all  also the tests that take minutes: every network, built"
	@echo "test-fresh  the tests on a minimal system that has nothing yet, in a folder; needs root"
	@echo "durations  record how long each test takes, by which the tests are spread over processes"
	@echo "check     ruff, mypy, the JSON Schema's freshness, the pages' links"
	@echo "build     build-repo on models.yaml"
	@echo "serve     serve model_repository on loopback, and what is built meanwhile"
	@echo "docs      the pages as a site, in site/"
	@echo "bench     the benchmarks, with their ratios"
	@echo "clean     remove .venv and everything built"

install: $(STAMP)

$(STAMP):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	.ci/environment $(PYTHON) $(notdir $@)

demo: install
	$(BIN)/python examples/demo.py

.venv/tensorrt-10: WHEEL = tensorrt_cu12_bindings==10.16.1.11
.venv/tensorrt-11: WHEEL = tensorrt_cu13_bindings==11.4.0.106
# KServe's fields and types, which the tests hold its objects to.
KSERVE := .venv/kserve
$(KSERVE): WHEEL = kserve==0.21.0
$(BINDINGS) $(KSERVE): | $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@ $(WHEEL)

# Not by prerequisites: pytest is to have no jobserver, which the makes that it starts would ask.
prepared: install
	@$(MAKE) --no-print-directory --jobs=3 --output-sync check $(BINDINGS) $(KSERVE)

test: prepared
	$(PYTEST) -m "not slow and $(SELECTION)" $(ARGS)

test-all: prepared
	$(PYTEST) -m "$(SELECTION)" $(ARGS)

test-fresh:
	ARGS='$(ARGS)' tests/fresh.sh

durations: install $(BINDINGS) $(KSERVE)
	$(PYTEST) -m "$(SELECTION)" --record-durations $(ARGS)

# Parts that `make test` runs beside each other.
check: lint types schemas site

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy
	$(BIN)/mypy docs/hooks

schemas: install
	@for file in models training; do \
		$(BIN)/build-repo schema $$file | diff -u builder/$$file.schema.json - || { echo "run: make schema" >&2; exit 1; }; \
	done

site: install
	$(SITE) build/site

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: install
	$(BIN)/build-repo schema models > builder/models.schema.json
	$(BIN)/build-repo schema training > builder/training.schema.json

docs: install
	$(SITE) site
	@echo "open site/index.html; to search, too: $(BIN)/mkdocs serve"

build: install
	$(BIN)/build-repo -r $(REPOSITORY)

serve: install
	$(BIN)/build-repo serve --watch -r $(REPOSITORY)

bench: install
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/tasks.py
	$(BIN)/python benchmarks/huggingface.py
	$(BIN)/python benchmarks/building.py
	$(BIN)/python benchmarks/formats.py
	$(BIN)/python benchmarks/clients.py
	$(BIN)/python benchmarks/gateway.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/lifecycle.py
	$(BIN)/python benchmarks/stores.py
	$(BIN)/python benchmarks/check.py

clean:
	rm -rf .venv build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .model_repository.staging
	find model_repository examples/digits examples/photos -mindepth 1 ! -name README.md ! -name .gitkeep -delete
