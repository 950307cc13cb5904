"""Write the table of checked text families into the docs: ``PYTHONPATH=tests python dev/models_table.py``."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "guides" / "models.md"


def main() -> None:
    """Replace the page's table of families by that of the tests."""
    from fixtures.tiny_text_families import families_table  # type: ignore[import-not-found]

    page = PAGE.read_text(encoding="utf-8")
    changed = re.sub(r"\| family \|.*?\n(?!\|)", lambda _: families_table(), page, count=1, flags=re.DOTALL)
    PAGE.write_text(changed, encoding="utf-8")


if __name__ == "__main__":
    main()
