# README's two commands are `make demo` and `make test`; everything else serves them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
METADATA := pyproject.toml runtime/pyproject.toml export/pyproject.toml benchmarks/pyproject.toml constraints.txt
DEMO   := demo-out
# One thread: the tests' models are tiny, and more threads only wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: venv demo test test-slow test-wheels test-pacs lint bench wheelhouse clean

venv: $(STAMP)

$(STAMP): $(METADATA)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  -e "./runtime[cpu,serve,node]" -e ".[dev]" -e "./export[rtx]" -e ./benchmarks
	touch $@

# The main job on synthetic phantoms with the built-in encoder: everything a user does, in order.
demo: venv
	rm -rf $(DEMO)
	mkdir $(DEMO)
	$(BIN)/madclip phantoms --out $(DEMO)/Brain-phantoms_AD --normal 80 --abnormal 80 --seed 0
	$(BIN)/madclip train --data $(DEMO)/Brain-phantoms_AD --encoder nano --shots 16 --epochs 15 --out $(DEMO)/phantoms.pt
	$(BIN)/madclip evaluate --ckpt $(DEMO)/phantoms.pt --data $(DEMO)/Brain-phantoms_AD --json $(DEMO)/evaluation.json
	$(BIN)/madclip export --ckpt $(DEMO)/phantoms.pt --fp16
	$(BIN)/madclip-run --bundle $(DEMO)/phantoms-fp16.madclip --out $(DEMO)/overlays \
	  $(DEMO)/Brain-phantoms_AD/test/good/img/normal_0079.png $(DEMO)/Brain-phantoms_AD/test/Ungood/img/lesion_0079.png
	$(BIN)/madclip-bench run --bundle $(DEMO)/phantoms-fp16.madclip --data $(DEMO)/Brain-phantoms_AD \
	  --quick --json $(DEMO)/bench.json --html $(DEMO)/bench.html | sed '$$d'
	@echo
	@echo "The pictures: $(DEMO)/overlays/*.png    figures: $(DEMO)/evaluation.json    the bench: $(DEMO)/bench.html"
	@echo "Synthetic phantoms and an encoder with random weights: this shows that the way works, not how well it detects."

test: venv
	$(PYTEST) -m "not slow"

# README's commands one by one, the peers' table in small, reports by script, and real images where ../shared lies beside.
test-slow: venv
	$(PYTEST) -m slow --ignore tests/pacs

# A real pip, a real index: the runtime's wheel in an empty environment.
test-wheels: venv
	MADCLIP_REAL_INDEX=1 $(BIN)/python -m pytest tests/packaging

# Real DICOM peers on loopback (apt-get install orthanc orthanc-dicomweb dcmtk dicom3tools), kill -9 included: 4 minutes.
test-pacs: venv
	MADCLIP_PACS=1 $(BIN)/python -m pytest -s tests/pacs

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The full run: an hour and more, of the bundle that `make demo` made.
bench: $(DEMO)/phantoms-fp16.madclip
	$(BIN)/madclip-bench run --bundle $(DEMO)/phantoms-fp16.madclip --data $(DEMO)/Brain-phantoms_AD \
	  --json $(DEMO)/bench-full.json --html $(DEMO)/bench-full.html

$(DEMO)/phantoms-fp16.madclip:
	$(MAKE) demo

# A folder that installs the runtime on a machine without any network (docs/install.md). Made on the box's own kind of
# machine: same Python, same processor.
EXTRAS ?= cpu,dicom,nifti
wheelhouse: venv
	rm -rf wheelhouse
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check -c constraints.txt --wheel-dir wheelhouse "./runtime[$(EXTRAS)]"
	@echo "copy wheelhouse/ to the box, then: pip install --no-index --find-links wheelhouse 'madclip-runtime[$(EXTRAS)]'"

clean:
	rm -rf $(DEMO) build dist wheelhouse
