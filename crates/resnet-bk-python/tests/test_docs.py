"""The programs of docs/python.md."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import TINY_ENGLISH

import resnet_bk

PAGE = (Path(__file__).parents[3] / "docs" / "python.md").read_text(encoding="utf-8")


def blocks(text: str) -> list[str]:
    found = re.findall(r"^( *)```python\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return ["\n".join(line.removeprefix(indent) for line in block.split("\n")) for indent, block in found]


def test_all_programs_are_python() -> None:
    assert len(blocks(PAGE)) >= 6
    for block in blocks(PAGE):
        compile(block, "docs/python.md", "exec")


def test_the_section_on_models_runs() -> None:
    section = PAGE.split("## Use a model")[1].split("\n## ")[0]
    names: dict[str, object] = {"resnet_bk": resnet_bk}
    for block in blocks(section):
        exec(block.replace("runs/demo/model.rbk", str(TINY_ENGLISH)), names)
    assert isinstance(names["other"], resnet_bk.State) and len(names["other"]) == 4


def test_all_names_of_the_page_exist() -> None:
    for name in re.findall(r"resnet_bk\.(\w+)", PAGE):
        assert hasattr(resnet_bk, name), name
