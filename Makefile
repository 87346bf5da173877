# The commands people type; each is one `cargo xtask` command. `make` alone lists them.
.PHONY: help run test check bench htmldocs

help:
	@sed -n 's/^#: //p' Makefile

#: make run        boot to a shell on the built-in BusyBox image, on this terminal
run: linker
	@cargo xtask run

#: make test       everything: host tests, then guest tests
test: linker
	@cargo xtask test

#: make check      style, lints, layers, documents
check: linker
	@cargo xtask check

#: make bench      Linnet beside Linux, a table of ratios
bench: linker
	@cargo xtask bench

#: make htmldocs   the API reference as HTML
htmldocs: linker
	@cargo xtask docs

# cargo links with the C compiler's driver, which a bare Debian does not have.
.PHONY: linker
linker:
	@command -v cc >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  { echo "[make] installing Debian's gcc and libc6-dev" >&2; \
	    apt-get -qq update && apt-get -qq install -y --no-install-recommends gcc libc6-dev >/dev/null; }; } || \
	  { echo "a C compiler is missing: please install gcc and libc6-dev" >&2; exit 1; }
