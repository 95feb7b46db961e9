"""Build the site: `python docs/site/build.py [FOLDER]`, by default into `build/docs`.

Warnings are errors: a link that leads nowhere, a page that the front page does not list.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.cmd.build import build_main

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from pages import lay_out  # noqa: E402
from reference import reference_pages  # noqa: E402

ROOT = HERE.parents[1]


def build(root: Path, target: Path) -> int:
    """Lay the pages of `root` out beside `target`, and build the site in it; 0 where nothing is wrong."""
    source = target.with_name(target.name + "-source")
    lay_out(root, source, {"Reference": reference_pages()})
    options = ["--builder", "html", "--conf-dir", str(HERE), "--fail-on-warning", "--keep-going", "--quiet"]
    return build_main([*options, "--fresh-env", str(source), str(target)])


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs"
    status = build(ROOT, folder)
    print(f"The site is {folder / 'index.html'}." if status == 0 else "The site has faults, see above.")
    sys.exit(status)
