.DEFAULT_GOAL := help
.PHONY: help dev test pooler check fuzz bench

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

dev: ## Run everything on this machine
	go run . dev

test: tests/e2e/node_modules ## Run all tests, which start the servers they need
	go test ./...

tests/e2e/node_modules: tests/e2e/package-lock.json
	npm ci --prefix tests/e2e
	touch $@

pooler: tests/e2e/node_modules ## Run the tests of the write path through PgBouncer
	POSTERN_TEST_POOLER=1 go test -count=1 ./tests/conformance/ ./tests/examples/ ./tests/faults/ ./tests/model/ ./tests/e2e/
	POSTERN_TEST_POOLER=1 go test -count=1 -short ./tests/rejected/

check: ## Check formatting, run vet, and run the race detector on packages that share state
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "not gofmt'ed: $$unformatted"; exit 1; }
	go vet ./...
	go test -race ./service/... ./supabase/ ./neon/ ./policies/... ./tests/rig/ ./tests/conformance/
	go test -race -short ./tests/rejected/

fuzz: ## Fuzz the parsers of client bytes and policies for a minute each
	go test ./service/upload -run '^$$' -fuzz FuzzDecodeBatch -fuzztime 1m
	go test ./service/value -run '^$$' -fuzz FuzzConvert -fuzztime 1m
	go test ./service/identity -run '^$$' -fuzz FuzzHeaderToIdentity -fuzztime 1m
	go test ./service/identity -run '^$$' -fuzz FuzzKeySet -fuzztime 1m
	go test ./policies -run '^$$' -fuzz FuzzRead -fuzztime 1m

bench: ## Compare Postern with a minimal program, as ratios; takes seven minutes
	go run ./tests/bench
