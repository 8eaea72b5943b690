# make demo | curate-demo | test | test-slow | lint | clean
# Needs Python >= 3.11, pip and make; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := setup.py requirements/constraints.txt
PIP := $(BIN)/pip --disable-pip-version-check
DEMO_DATA := data/demo
CURATION_DEMO := data/curation_demo
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --max-worker-restart=0
# Kernels as on a processor without AVX-512: torch's own, oneDNN's, MKL's.
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2

.PHONY: demo curate-demo test test-slow lint clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python >= 3.11 is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(SOURCES) | $(BIN)/python
	@echo "Installing into $(VENV): about 6 GB and some minutes, the first time."
	$(PIP) install -q -c requirements/constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(SOURCES) | $(VENV)/.core
	$(PIP) install -q -c requirements/constraints.txt -e '.[dev]'
	@touch $@

# Trains on real handwritten digits that drift over ten time buckets: Replay, then Naive, then both side by side.
demo: $(VENV)/.core
	$(BIN)/python tools/dataset_converters/make_demo_clear.py $(DEMO_DATA)
	$(BIN)/python tools/train.py configs/demo/replay_lenet5_demo.py --overwrite
	$(BIN)/python tools/train.py configs/demo/naive_lenet5_demo.py --overwrite
	$(BIN)/python tools/analysis_tools/compare_runs.py work_dirs/replay_lenet5_demo work_dirs/naive_lenet5_demo --out work_dirs/demo_comparison

# What the stages of curation, the encoders of the demo and its photographs need beside the core.
$(VENV)/.curate: $(SOURCES) | $(VENV)/.core
	$(PIP) install -q -c requirements/constraints.txt -e '.[curate,align,pretrained,data]'
	@touch $@

# From a stream of photographs, which a local host serves and sometimes fails to serve, to a CLEAR folder; then Naive.
curate-demo: $(VENV)/.curate
	$(BIN)/python tools/curation/make_demo_stream.py $(CURATION_DEMO)/stream --serve-while $(BIN)/python tools/curate.py configs/curation/demo.py --overwrite
	$(BIN)/python tools/train.py configs/demo/naive_lenet5_curation-demo.py --overwrite

test: $(VENV)/.dev
	$(PYTEST) -m 'not slow' tests

test-slow: $(VENV)/.dev
	$(PYTEST) -m slow tests
	$(AVX2) $(PYTEST) -m 'not slow' tests/models tests/evaluation tests/features

lint: $(VENV)/.dev
	$(BIN)/ruff check .

clean:
	rm -rf $(VENV) build dist *.egg-info work_dirs data/demo $(CURATION_DEMO) .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
