# relkit: `make demo` shows it, `make install` installs it, `make test` tests it.

GO      ?= go
PREFIX  ?= /usr/local
DESTDIR ?=
# VERSION goes into `relkit --version`; empty means what the module and git say.
VERSION ?=

# Where git cannot answer (no repository, another owner), the revision is left out.
STAMP := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo auto || echo false)

BUILD = CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=$(STAMP) -tags urfave_cli_no_docs \
        -ldflags "-s -w$(if $(VERSION), -X main.version=$(VERSION))"
PAGES = $(wildcard man/*.[1-9])
SCHEMAS = $(wildcard man/*.schema.json)

.PHONY: build build-all demo install test test-vm check bench fuzz man clean

build:
	$(BUILD) -o bin/relkit ./cmd/relkit

build-all:
	GOOS=linux GOARCH=amd64 $(BUILD) -o dist/relkit-linux-amd64 ./cmd/relkit
	GOOS=linux GOARCH=arm64 $(BUILD) -o dist/relkit-linux-arm64 ./cmd/relkit
	cd dist && sha256sum relkit-linux-amd64 relkit-linux-arm64 > SHA256SUMS

# The whole chain over one small project; needs no root.
demo: build
	PATH="$(CURDIR)/bin:$$PATH" examples/demo.sh

install: build
	install -D -m 0755 bin/relkit $(DESTDIR)$(PREFIX)/bin/relkit
	for page in $(PAGES); do \
	    install -D -m 0644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/} || exit 1; \
	done
	for schema in $(SCHEMAS); do \
	    install -D -m 0644 $$schema $(DESTDIR)$(PREFIX)/share/relkit/$${schema##*/} || exit 1; \
	done
	for script in bash:bash-completion/completions/relkit zsh:zsh/site-functions/_relkit fish:fish/vendor_completions.d/relkit.fish; do \
	    bin/relkit completion $${script%%:*} >bin/completion && \
	    install -D -m 0644 bin/completion $(DESTDIR)$(PREFIX)/share/$${script##*:} || exit 1; \
	done

# Every test, none skipped, then those with concurrency under the race detector.
test:
	scripts/install-test-deps.sh
	scripts/test.sh

# The tests that boot virtual machines.
test-vm: build
	scripts/install-test-deps.sh
	scripts/test-vm.sh

# What a reviewer would complain about: format, vet, static analysis, modules, manual pages, scripts.
check:
	scripts/check.sh

bench: build
	scripts/bench.sh

# Five minutes of processor time for each fuzz target: some hours in all.
fuzz:
	scripts/fuzz.sh

# The manual pages as HTML, after a check.
man:
	scripts/lint-man.sh $(PAGES)
	mkdir -p dist/man
	for page in $(PAGES); do \
	    mandoc -Thtml -O man=%N.%S.html $$page > dist/man/$${page##*/}.html || exit 1; \
	done

clean:
	rm -rf bin dist
