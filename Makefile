# make demo   search, derive, train and evaluate on embedded photographs
# make test   lint, types, tests
# make faults every fault of docs/runs.md at every point; make test tries some of each
# Both create .venv and install what they need. A CPU build of torch that is already in .venv is kept.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test faults lint clean

.venv/demo: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $@

.venv/dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ .venv/demo

demo: .venv/demo
	rm -rf demo
	$(BIN)/datanas search -c recipes/small/photos.yaml --run.root demo --run.name search
	$(BIN)/datanas derive demo/search --top 3
	$(BIN)/datanas train demo/search -c recipes/small/photos.yaml --run.root demo --run.name train
	$(BIN)/datanas evaluate demo/train
	@echo "The cells as pictures: demo/search/cells.svg and demo/search/cells.png"

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

faults: .venv/dev
	$(BIN)/python -m pytest tests/faults --complete -n 2 --dist worksteal -q

clean:
	rm -rf .venv demo
