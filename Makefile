PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-core lint bench clean

# Set up, train a small model in PyTorch, move the run to Orbax and to TensorFlow, show the ledgers.
demo: $(VENV)/ready
	$(BIN)/python examples/move_a_run.py

# Everything: the formats against the real frameworks, the laws, hostile files, crashes.
test: $(VENV)/ready
	$(BIN)/pytest -n auto

# The same tests where no framework is installed: those that need one skip themselves.
test-core: $(VENV)-core/ready
	$(VENV)-core/bin/pytest -n auto -p no:cacheprovider

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Every figure of the README, as ratios to the limits of this machine.
bench: $(VENV)/ready
	$(BIN)/python -m benchmarks.convert

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet -c constraints.txt -e '.[all]' --group dev --group frameworks
	touch $@

$(VENV)-core/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-core
	$(VENV)-core/bin/pip install --quiet --upgrade 'pip>=25.1'
	$(VENV)-core/bin/pip install --quiet -c constraints.txt -e '.[all]' --group dev
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-core .pytest_cache .mypy_cache .ruff_cache .hypothesis
