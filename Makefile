# README's two commands are `make demo` and `make test`; everything else serves them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
METADATA := pyproject.toml runtime/pyproject.toml export/pyproject.toml benchmarks/pyproject.toml constraints.txt

.PHONY: venv demo test test-wheels lint bench clean

venv: $(STAMP)

$(STAMP): $(METADATA)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  -e "./runtime[cpu]" -e ".[dev]" -e ./export -e ./benchmarks
	touch $@

demo: venv
	$(BIN)/python tools/demo.py --out demo-out

test: venv
	$(BIN)/python -m pytest tests

# A real pip, a real index: the runtime's wheel in an empty environment.
test-wheels: venv
	$(BIN)/python -m pytest tests/packaging --real-index

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: venv
	$(BIN)/python tools/demo.py --out demo-out --until export
	$(BIN)/madclip-bench run --bundle demo-out/phantoms-fp32.madclip --json demo-out/bench-full.json

clean:
	rm -rf demo-out build dist
