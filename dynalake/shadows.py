"""Noticing that a reader's own `lake.py` or `queries/` stands where dynalake's package of that name should.

Their names are generic; in a folder with a `lake.py`, Python would import that one and fail in a puzzling way.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

PACKAGES: Final = ("ingest", "lake", "queries", "expectations")


def refuse_shadows(home: Path) -> None:
    """Refuse to go on where one of dynalake's packages would be another's.

    Args:
        home: the folder that holds dynalake's packages.

    Raises:
        ImportError: a file or folder of the same name comes first; the text names it and the remedy.
    """
    for name in PACKAGES:
        spec = find_spec(name)
        found = None if spec is None or spec.origin is None else Path(spec.origin)
        if found is None or found.parent.parent.resolve() != home.resolve():
            where = found or (list(spec.submodule_search_locations or []) if spec else "nowhere")
            raise ImportError(
                f"dynalake needs its own package {name!r}, but Python finds {where} first: rename that file or "
                "folder, or start Python in another folder"
            )
