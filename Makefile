# `make demo` runs the main job, `make test` the tests; both set up .venv first, and touch nothing else.

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3,$(if $(shell $(p) -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] <= (3,12))' 2>/dev/null && echo ok),$(p))))
BIN := .venv/bin
STAMP := .venv/installed
# TensorRT's Python bindings without its libraries, which the tests hold the builder's calls to.
BINDINGS := .venv/tensorrt-10 .venv/tensorrt-11
REPOSITORY ?= model_repository

.PHONY: help install demo test test-all check format build serve bench schema clean

help:
	@echo "demo      train, build and serve handwritten digits; then real photos, with a page to look at"
	@echo "test      check, then the tests, the real server included"
	@echo "test-all  also the tests that take minutes: every network, built"
	@echo "check     ruff, mypy, the JSON Schema's freshness"
	@echo "build     build-repo on models.yaml"
	@echo "serve     serve model_repository on loopback"
	@echo "bench     the benchmarks, with their ratios"
	@echo "clean     remove .venv and everything built"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install
	$(BIN)/python examples/demo.py

.venv/tensorrt-10: WHEEL = tensorrt_cu12_bindings==10.16.1.11
.venv/tensorrt-11: WHEEL = tensorrt_cu13_bindings==11.4.0.106
# KServe's fields and types, which the tests hold its objects to.
KSERVE := .venv/kserve
$(KSERVE): WHEEL = kserve==0.21.0
$(BINDINGS) $(KSERVE): | $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@ $(WHEEL)

test: check $(BINDINGS) $(KSERVE)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu"

test-all: check $(BINDINGS) $(KSERVE)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not gpu"

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@for file in models training; do \
		$(BIN)/build-repo schema $$file | diff -u builder/$$file.schema.json - || { echo "run: make schema" >&2; exit 1; }; \
	done

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: install
	$(BIN)/build-repo schema models > builder/models.schema.json
	$(BIN)/build-repo schema training > builder/training.schema.json

build: install
	$(BIN)/build-repo -r $(REPOSITORY)

serve: install
	$(BIN)/build-repo serve -r $(REPOSITORY)

bench: install
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/building.py
	$(BIN)/python benchmarks/formats.py
	$(BIN)/python benchmarks/clients.py
	$(BIN)/python benchmarks/gateway.py
	$(BIN)/python benchmarks/training.py

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .model_repository.staging
	find model_repository examples/digits examples/photos -mindepth 1 ! -name README.md ! -name .gitkeep -delete
