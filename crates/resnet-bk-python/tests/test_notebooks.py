"""The notebooks, as they are in the repository. `.ci/notebook` executes them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[3] / "notebooks"
ENGLISH, JAPANESE = (
    json.loads((FOLDER / name).read_text(encoding="utf-8")) for name in ("compression.ipynb", "compression.ja.ipynb")
)


def of_kind(notebook: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def text(lines: Any) -> str:
    return lines if isinstance(lines, str) else "".join(lines)


def test_both_languages_have_the_same_code_and_outputs() -> None:
    kinds = [[cell["cell_type"] for cell in notebook["cells"]] for notebook in (ENGLISH, JAPANESE)]
    assert kinds[0] == kinds[1] and kinds[0].count("code") >= 8
    for english, japanese in zip(of_kind(ENGLISH, "code"), of_kind(JAPANESE, "code")):
        assert text(english["source"]) == text(japanese["source"])
        assert english["outputs"] == japanese["outputs"]


def test_each_language_has_its_prose() -> None:
    japanese = re.compile("[\u3040-\u30ff]")
    for english_cell, japanese_cell in zip(of_kind(ENGLISH, "markdown"), of_kind(JAPANESE, "markdown")):
        first_line = text(english_cell["source"]).split("\n")[0]
        assert not japanese.search(text(english_cell["source"]).replace("日本語版", "")), first_line
        assert japanese.search(text(japanese_cell["source"])), first_line
        headings = [text(cell["source"]).count("\n## ") for cell in (english_cell, japanese_cell)]
        assert headings[0] == headings[1], first_line


@pytest.mark.parametrize("notebook", [ENGLISH, JAPANESE], ids=["english", "japanese"])
def test_outputs_are_of_one_execution_and_of_no_machine(notebook: dict[str, Any]) -> None:
    cells = of_kind(notebook, "code")
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell["metadata"] == {} for cell in cells)
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    for output in outputs:
        assert output["output_type"] in ("stream", "display_data", "execute_result"), output
        assert output.get("name") != "stderr", text(output["text"])
        shown = text(output.get("text", "")) + text(output.get("data", {}).get("text/plain", ""))
        assert not re.search(r"/(tmp|home|root|work|usr|content)/|0x[0-9a-f]{6}", shown), shown


def test_links_lead_to_files() -> None:
    for notebook in (ENGLISH, JAPANESE):
        prose = "\n".join(text(cell["source"]) for cell in of_kind(notebook, "markdown"))
        links = re.findall(r"\]\(([^)#]+)", prose)
        assert len(links) >= 3
        assert [link for link in links if not (FOLDER / link).exists()] == []
