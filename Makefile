# Everything runs in .venv, which the first target that needs it makes; a second call installs nothing.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo experiment test check bench format lock clean

BIN := .venv/bin
STAMP := .venv/.installed
UV_VERSION := 0.13.9
# All but those of a trained policy, which is theirs to be told, and what two of them share.
BENCHMARKS := $(filter-out %/latency.py %/zero_demonstrations.py %/recordings.py,$(sort $(wildcard benchmarks/*.py)))

# Two processes of one thread each: right for tests on two cores.
test: export OMP_NUM_THREADS := 1
test: export OPENBLAS_NUM_THREADS := 1
# Hundreds of tests start processes: each would compile our files anew where bytecode is not kept.
test: export PYTHONDONTWRITEBYTECODE :=
export MUJOCO_GL ?= egl
export HF_HUB_OFFLINE ?= 1

help: ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(STAMP) ## Record, train, export and evaluate a robot policy in simulation (13 to 33 minutes)
	@$(BIN)/motus demo

experiment: $(STAMP) ## Does pretraining help? Hours on two cores; goes on where it was stopped
	@$(BIN)/python -m motus_recipes.experiments.pretraining --page docs/results/pretraining.md

test: $(STAMP) ## Run the tests
	@$(BIN)/pytest -q -n 2 --dist worksteal

check: $(STAMP) ## Formatting, lint, types, import rules, tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(MAKE) --no-print-directory test

bench: $(STAMP) ## Run the benchmarks that need no policy of yours, and print their figures
	@for file in $(BENCHMARKS); do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

format: $(STAMP) ## Format the code and apply the safe fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: $(STAMP) ## Pin all dependencies again, with hashes and without addresses
	@$(BIN)/uv pip compile pyproject.toml --universal --generate-hashes \
	  --extra sim --extra robots --extra formats --extra serve --extra onnx --extra metrics --extra viz --extra dev \
	  --no-annotate --no-emit-index-url --python-version 3.12 --quiet \
	  --custom-compile-command "make lock" -o requirements/lock.txt

clean: ## Remove the virtual environment and what tools leave behind
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(STAMP): requirements/lock.txt requirements/without_dependencies.txt pyproject.toml adapters/lerobot_policy_motus/pyproject.toml
	@python=$$(bash requirements/find_python.sh) && \
	echo "setting up .venv with $$python (some minutes the first time)" >&2 && \
	{ [ -x $(BIN)/python ] || "$$python" -m venv .venv; } && \
	{ [ -x $(BIN)/uv ] || $(BIN)/python -m pip install --quiet uv==$(UV_VERSION); } && \
	export UV_COMPILE_BYTECODE=1 && \
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/lock.txt && \
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes \
	  -r requirements/without_dependencies.txt && \
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e . \
	  -e adapters/lerobot_policy_motus && \
	touch $@
