# make demo   search, race, train and compare on embedded photographs: the cell that is kept, a random one, ResNet-18
# make test   lint, types, tests
# make coverage the same tests, and the lines that none of them runs; half as long again on Python 3.11
# make faults every fault of docs/runs.md at every point; make test tries some of each
# make docs   the documentation as a site, in build/site: every page, Python's public names, every setting
# make mutants break mathematics and engine on purpose, show what no test notices; FILE=src/datanas/egs.py for one file
# All create .venv and install what they need. A CPU build of torch that is already in .venv is kept.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
RECIPE := recipes/small/demo.yaml
SEED := 0

.PHONY: demo test coverage faults docs mutants lint clean

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
	$(BIN)/datanas search -c $(RECIPE) --seed $(SEED) --run.root demo --run.name search
	$(BIN)/datanas sample -c $(RECIPE) --seed $(SEED) -o demo/random.json
	$(BIN)/datanas train demo/search -c $(RECIPE) --seed $(SEED) --run.root demo --run.name kept
	$(BIN)/datanas train demo/random.json -c $(RECIPE) --seed $(SEED) --run.root demo --run.name random
	$(BIN)/datanas train resnet18 -c $(RECIPE) --seed $(SEED) --run.root demo --run.name resnet18
	$(BIN)/datanas evaluate demo/kept demo/random demo/resnet18
	@echo "The cells as pictures: demo/search/cells.svg and demo/search/cells.png"

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

coverage: .venv/dev
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov=datanas --cov-report=term:skip-covered

faults: .venv/dev
	$(BIN)/python -m pytest tests/faults --complete -n 2 --dist worksteal -q

docs: .venv/dev
	$(BIN)/mkdocs build --quiet
	@echo "written to build/site/index.html"

mutants: .venv/dev
	$(BIN)/mutmut run --max-children 2 $(if $(FILE),'$(subst /,.,$(FILE:src/%.py=%)).*')
	$(BIN)/mutmut results | sed -n 's/: \(survived\|suspicious\|no tests\)$$//p' | xargs -r -n 1 $(BIN)/mutmut show

clean:
	rm -rf .venv demo mutants build
