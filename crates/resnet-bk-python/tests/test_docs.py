"""The programs of docs/python.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import CHECKPOINT, TINY_ENGLISH

import resnet_bk

PAGE = (Path(__file__).parents[3] / "docs" / "python.md").read_text(encoding="utf-8")


def blocks(text: str) -> list[str]:
    found = re.findall(r"^( *)```python\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return ["\n".join(line.removeprefix(indent) for line in block.split("\n")) for indent, block in found]


def test_all_programs_are_python() -> None:
    assert len(blocks(PAGE)) >= 6
    for block in blocks(PAGE):
        compile(block, "docs/python.md", "exec")


def test_the_section_on_models_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    section = PAGE.split("## Use a model")[1].split("\n## ")[0]
    names: dict[str, object] = {"resnet_bk": resnet_bk}
    for block in blocks(section):
        exec(block.replace("runs/demo/model.rbk", str(TINY_ENGLISH)), names)
    assert Path("copy.rbk").read_bytes() == TINY_ENGLISH.read_bytes()
    assert isinstance(names["other"], resnet_bk.State) and len(names["other"]) == 4


def test_the_section_on_checkpoints_of_the_original_runs() -> None:
    section = PAGE.split("## Checkpoints of Project ResNet-BK")[1].split("\n## ")[0]
    first, of_a_run = blocks(section)
    exec(first.replace("model.pt", str(CHECKPOINT)), {"resnet_bk": resnet_bk})
    assert "model=resnet_bk.load_original(" in of_a_run


def test_all_names_of_the_page_exist() -> None:
    for name in re.findall(r"resnet_bk\.(\w+)", PAGE):
        assert hasattr(resnet_bk, name), name
