#!/usr/bin/env bash
# Build the site, warnings as errors, without a network:   scripts/docs.sh [DIR]
#
# Into DIR (default site); open its index.html in a browser. Search works where it is served:
# python3 -m http.server -d site
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh docs
export NO_MKDOCS_2_WARNING=1 # silences an advertisement of the theme, no warning
exec .venv/bin/python -W error -m mkdocs build --strict --site-dir "${1:-site}"
