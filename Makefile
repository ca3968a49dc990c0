# Two commands do all the set-up: `make serve` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PORT ?= 3000
VENV := .venv
RUN := $(VENV)/bin/python
INSTALL := $(RUN) -m pip install --quiet --constraint constraints.txt --editable

# Where MNIST and Fashion-MNIST are not, tests of real images are skipped, and less of training/ runs.
DATA := $(wildcard $(addsuffix /MNIST/raw,$(DIGITSERVE_DATA) data ../shared/data))
TRAINING_FLOOR := $(if $(DATA),95,85)

.DEFAULT_GOAL := help
.PHONY: help serve setup test lint test-reliability test-containers mutate train bench bench-gpu check constraints clean

help: ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

serve: $(VENV)/serving ## run the service on http://localhost:3000 (PORT= changes it)
	@$(RUN) -m service serve --port $(PORT)

setup: $(VENV)/everything ## install everything: training and tests as well

test: $(VENV)/everything lint ## lint, strict types, and the tests with their coverage floors
	$(RUN) -m pytest --numprocesses 2 --dist loadfile --cov --cov-report=
	$(RUN) -m coverage report --include='service/*' --fail-under=100
	$(RUN) -m coverage report --include='training/*' --fail-under=$(TRAINING_FLOOR)

lint: $(VENV)/everything
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

test-reliability: $(VENV)/everything ## load, faults, bad input, access, against real servers (a quarter of an hour)
	$(RUN) -m pytest -m 'reliability or not reliability' tests/reliability

test-containers: $(VENV)/everything ## build the serving image and test it running (needs Docker or podman)
	TEST_CONTAINERS=1 $(RUN) -m pytest tests/test_containers.py tests/test_containers_running.py

mutate: $(VENV)/everything ## change four modules in 1,350 places and see the unit tests notice (ten minutes)
	rm -rf mutants
	OMP_NUM_THREADS=1 OPENCV_FOR_THREADS_NUM=1 $(VENV)/bin/mutmut run
	$(RUN) tests/mutation_score.py

train: $(VENV)/everything ## fit and export the served MLPs and CNNs, and first the ResNet that teaches mnist-cnn
	for recipe in mnist-mlp mnist-resnet mnist-cnn fashion-mnist-mlp fashion-mnist-cnn; do \
	    $(RUN) -m training fit $$recipe || exit 1; done

bench: $(VENV)/bench ## measure speed and the way from uploads to canonical images
	$(RUN) -m tests.benchmarks

bench-gpu: $(VENV)/bench ## measure batches on one NVIDIA GPU beside PyTorch and plain ONNX Runtime
	$(RUN) -m tests.benchmarks.gpu

check: $(VENV)/serving ## what is installed here, and whether every model can be served
	$(RUN) -m service check

constraints: ## write the newest versions of everything into constraints.txt
	rm -rf $(VENV)-newest && $(PYTHON) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet '.[cuda,training,test,bench]'
	{ echo '# Exact versions for installations, images and CI; `make constraints` renews them.'; \
	  $(VENV)-newest/bin/python -m pip freeze --exclude digitserve | \
	    sed 's/^onnxruntime-gpu==\(.*\)/onnxruntime==\1\n&/'; } > constraints.txt
	rm -rf $(VENV)-newest

clean: ## remove the environment and every cache
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* mutants

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/serving: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo 'Installing what serving needs into $(VENV) …'
	$(INSTALL) .
	@touch $@

$(VENV)/everything: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo 'Installing everything, training and tests included, into $(VENV) …'
	$(INSTALL) '.[training,test]'
	@touch $@ $(VENV)/serving

$(VENV)/bench: $(VENV)/everything
	$(INSTALL) '.[bench]'
	@touch $@
