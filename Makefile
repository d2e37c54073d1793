.DEFAULT_GOAL := help
.PHONY: help dev test pooler check fuzz

help: ## What can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

dev: ## Run everything on this machine
	go run . dev

test: tests/e2e/node_modules ## Run all tests; they start what they need
	go test ./...

tests/e2e/node_modules: tests/e2e/package-lock.json
	npm ci --prefix tests/e2e
	touch $@

pooler: ## Run the tests of the write path with PgBouncer between Postern and Postgres
	POSTERN_TEST_POOLER=1 go test ./tests/conformance/ ./tests/faults/ ./tests/model/

check: ## Formatting, vet, and the race detector on the packages that share state
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "not gofmt'ed: $$unformatted"; exit 1; }
	go vet ./...
	go test -race ./service/... ./policies/... ./tests/conformance/

fuzz: ## Fuzz the parsers of client bytes for a minute each
	go test ./service/upload -run '^$$' -fuzz FuzzDecodeBatch -fuzztime 1m
