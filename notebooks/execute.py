#!/usr/bin/env python3
"""Executes the notebook, and puts its outputs into it and into its Japanese twin.

    python notebooks/execute.py [--update]

compression.ipynb is executed by nbconvert, in a folder of its own with a link to the repository. An
error in a cell is an error here. compression.ja.ipynb has the same code, so it is not executed again.
Without --update, nothing is written. Needs nbconvert, ipykernel and what the notebook imports.
"""

import argparse
import tempfile
from pathlib import Path

import nbformat
from nbconvert.preprocessors import ExecutePreprocessor

FOLDER = Path(__file__).resolve().parent
NAMES = ["compression.ipynb", "compression.ja.ipynb"]
#: For a cell, in seconds.
TIMEOUT = 900


def executed(path):
    """The code cells of a notebook with their outputs."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "resnet-bk").symlink_to(FOLDER.parent)
        ExecutePreprocessor(timeout=TIMEOUT).preprocess(notebook, {"metadata": {"path": place}})
    cells = code_cells(notebook)
    for cell in cells:
        cell.outputs = joined(cell.outputs)
    return cells


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def joined(outputs):
    """Outputs with one entry for each stream: how it is cut depends on time."""
    found = []
    for output in outputs:
        if found and output.output_type == "stream" and found[-1].get("name") == output.name:
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--update", action="store_true", help="write the outputs into the notebooks")
    update = parser.parse_args().update
    cells = executed(FOLDER / NAMES[0])
    print(f"{NAMES[0]}: {len(cells)} cells executed")
    for name in NAMES if update else []:
        notebook = nbformat.read(FOLDER / name, as_version=4)
        for cell, done in zip(code_cells(notebook), cells, strict=True):
            if cell.source != done.source:
                raise SystemExit(f"{name}: the code differs from that of {NAMES[0]}:\n{cell.source}")
            cell.outputs, cell.execution_count = done.outputs, done.execution_count
        nbformat.write(notebook, FOLDER / name)
        print(f"{name}: written")


if __name__ == "__main__":
    main()
