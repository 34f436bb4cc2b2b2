# Each target is one line of tools/try.py, which also works without make.
PYTHON ?= python3

.PHONY: help demo test lint clean

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST)

demo:  ## set everything up and run a workflow for you to watch
	@$(PYTHON) tools/try.py demo

test:  ## set everything up and run all tests; ends with "N passed"
	@$(PYTHON) tools/try.py test

lint:  ## style, types, layers, file lengths, missing migrations
	@$(PYTHON) tools/try.py lint

clean:  ## remove the environment, the demo's data and all caches
	@$(PYTHON) tools/try.py clean
