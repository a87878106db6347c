"""A run to report on."""

import pytest

from report_runs import write_evaluation, write_ledger, write_lines, write_run


@pytest.fixture
def run(tmp_path):
    """A finished and evaluated run."""
    folder = tmp_path / "run"
    write_run(folder, settings={"recipe": {"name": "digits-ps", "network": {"width_mult": 0.5}}})
    write_lines(folder)
    write_ledger(folder)
    write_evaluation(folder)
    return folder
