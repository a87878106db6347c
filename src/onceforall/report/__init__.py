"""One offline HTML page about a run: what was trained and how, curves, results, costs, machine.

`writing` reads the run and composes, `sections` and `figures` make the parts as values, `wording` shows names and
numbers, `page` turns the values into HTML.
"""

from onceforall.report.writing import write_report

__all__ = ["write_report"]
