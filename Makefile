# README's two commands are `make demo` and `make test`; everything else serves them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
METADATA := pyproject.toml runtime/pyproject.toml export/pyproject.toml benchmarks/pyproject.toml constraints.txt
DEMO   := demo-out
# One thread: the tests' models are tiny, and more threads only wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: venv demo demo-fp16 demo-int8 demo-bundle test test-slow test-wheels test-pacs lint bench wheelhouse clean

venv: $(STAMP)

$(STAMP): $(METADATA)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  -e "./runtime[cpu,serve,node]" -e ".[dev]" -e "./export[rtx]" -e ./benchmarks
	touch $@

# The main job on synthetic phantoms with the built-in encoder: everything a user does, in order. Each step says one line;
# the rest of what it said is in $(DEMO)/STEP.log, and is shown where a step fails. A second run finds the encoder's features
# of the shots in build/. Seeds: pretraining saw phantoms of 0 and 1, so those stay out (docs/nano.md).
said = >$(DEMO)/$(1).txt 2>$(DEMO)/$(1).log || { tail -n 20 $(DEMO)/$(1).log >&2; exit 1; }
PHANTOMS := $(DEMO)/Brain-phantoms_AD
UNSEEN := $(DEMO)/unseen_AD

demo: venv
	@rm -rf $(DEMO) && mkdir $(DEMO)
	@$(BIN)/madclip phantoms --out $(PHANTOMS) --normal 40 --abnormal 40 --seed 20 $(call said,phantoms); cat $(DEMO)/phantoms.txt
	@$(BIN)/madclip train --data $(PHANTOMS) --encoder nano --shots 8 --epochs 4 --feature-cache build/demo-features \
	  --out $(DEMO)/phantoms.pt $(call said,train); cat $(DEMO)/train.txt
	@OMP_NUM_THREADS=1 $(MAKE) --no-print-directory -j 2 demo-fp16 demo-int8
	@$(BIN)/madclip phantoms --out $(UNSEEN) --normal 5 --abnormal 5 --seed 21 $(call said,unseen); cat $(DEMO)/unseen.txt
	@$(BIN)/madclip-run --bundle $(DEMO)/phantoms-int8.madclip --out $(DEMO)/overlays --gallery $(DEMO)/gallery.html \
	  $(UNSEEN)/*/*/img $(call said,run); awk '{ if ($$4 == "borderline") near++; \
	  else if (($$4 == "abnormal") == ($$1 ~ /lesion_/)) right++; else wrong++ } \
	  END { printf "%s: %d unseen phantoms, %d right, %d borderline, %d wrong\n", "$(DEMO)/gallery.html", NR, right, near, wrong }' \
	  $(DEMO)/run.txt
	@$(BIN)/madclip-bench run --bundle $(DEMO)/phantoms-int8.madclip --data $(PHANTOMS) --quick --scenarios offline \
	  --json $(DEMO)/bench.json --html $(DEMO)/bench.html $(call said,bench); \
	  echo "$(DEMO)/bench.html: $$(grep -om 1 'p50 [^,]*, p90 [^,]*' $(DEMO)/bench.txt), AUROC on the test phantoms \
	  $$(grep -om 1 'AUROC of [0-9.]* %' $(DEMO)/bench.txt | grep -o '[0-9.]* %')" | tr -s ' '; rm $(DEMO)/*.txt
	@echo "All images are synthetic: this shows that the way works, not how well it detects anything in a patient."

# Both at a time: each needs the checkpoint, neither needs the other.
demo-fp16 demo-int8: demo-%:
	@$(BIN)/madclip export --ckpt $(DEMO)/phantoms.pt --$* $(call said,export-$*); cat $(DEMO)/export-$*.txt

# The bundle inside the runtime, for madclip-run --demo, made anew (its bytes depend on the machine; the recipe is this).
DEMONSTRATION := runtime/madclip_runtime/demonstration
demo-bundle: venv
	rm -rf build/demonstration $(DEMONSTRATION)
	mkdir -p build/demonstration
	$(BIN)/madclip phantoms --out build/demonstration/Brain-phantoms_AD --normal 120 --abnormal 120 --seed 7
	$(BIN)/madclip train --data build/demonstration/Brain-phantoms_AD --encoder nano --shots 16 --epochs 20 \
	  --out build/demonstration/demonstration.pt
	$(BIN)/madclip evaluate --ckpt build/demonstration/demonstration.pt --data build/demonstration/Brain-phantoms_AD
	$(BIN)/madclip export --ckpt build/demonstration/demonstration.pt --int8 --out $(DEMONSTRATION) \
	  --notice "demonstration only, trained on synthetic images"

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
bench: $(DEMO)/phantoms-int8.madclip
	$(BIN)/madclip-bench run --bundle $(DEMO)/phantoms-int8.madclip --data $(DEMO)/Brain-phantoms_AD \
	  --json $(DEMO)/bench-full.json --html $(DEMO)/bench-full.html

$(DEMO)/phantoms-int8.madclip:
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
