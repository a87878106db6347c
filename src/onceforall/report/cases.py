"""The section of the page about single volumes: scores on the grids of their files, and pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onceforall.evaluation.cases import case_table, worst_cases
from onceforall.evaluation.results import RESULTS
from onceforall.report.page import Section, Table

__all__ = ["cases_section"]

TEXT = (
    "Every volume on the grid of its own file, by networks that were calibrated for it. Dice is the mean over volumes "
    "with its 95 % t-interval, for other volumes of the same kind; what neither truth nor prediction has is absent and "
    "not measured. HD95 is the larger of the two 95th percentiles of surface distances; a structure that was missed or "
    "invented counts as the diagonal of its volume."
)


def cases_section(contents: Mapping[str, Any], folder: Path) -> Section:
    """The volumes of a split; `contents` of its results, `folder` of the run."""
    cases = contents["cases"]
    head, rows = case_table(cases)
    facts = [(f"Lowest Dice, {name}", worst_cases(found)) for name, found in cases.items()]
    places = {name: folder / RESULTS / found["picture"] for name, found in cases.items() if found["picture"]}
    pictures = [
        (f"Best, median and worst volume of {name}", place) for name, place in places.items() if place.is_file()
    ]
    tables = [Table(head, rows)]
    return Section(f"Volumes: {contents['split']}", TEXT, facts=facts, pictures=pictures, tables=tables)
