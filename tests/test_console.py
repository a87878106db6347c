"""Progress and tables, on a terminal and elsewhere."""

import click
import pytest
from click.testing import CliRunner

from onceforall.console import Commands, NetworkProgress, print_table, reading_progress
from onceforall.errors import UserError


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr("onceforall.console._is_terminal", lambda: True)


def test_columns(capsys):
    print_table(["name", "macs"], [["largest", "5M"], ["a", "123.4K"]])
    assert capsys.readouterr().out == "name       macs\nlargest      5M\na        123.4K\n"
    print_table(["name", "macs", "what"], [["a", "5M", "it"], ["b", "12M", "longer"]], words=["what"])
    assert capsys.readouterr().out == "name  macs  what\na       5M  it\nb      12M  longer\n"


def test_a_line_now_and_then_where_there_is_no_terminal(capsys):
    clock = Clock()
    progress = NetworkProgress("depth", clock)
    progress(0, 100)
    for done in range(1, 101):
        clock.now += 7
        progress(done, 100)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 700 // 63  # every ninth of 7 s is the first after 60
    assert lines[0] == "depth: 9 of 100, 11 min left"  # 91 times 7 s


def test_a_changing_line_on_a_terminal(capsys, terminal):
    clock = Clock()
    progress = NetworkProgress("depth", clock)
    for done in (0, 1, 2):
        progress(done, 2)
        clock.now += 30
    text = capsys.readouterr().err
    assert [part.strip() for part in text.split("\r")] == ["", "depth: 1 of 2, 30 s left", "depth: 2 of 2"]
    assert text.endswith("\n")


def test_earlier_results_are_told_and_do_not_speed_up_the_estimate(capsys, terminal):
    clock = Clock()
    progress = NetworkProgress("depth", clock)
    progress(50, 60)
    clock.now += 10
    progress(51, 60)
    before, now = capsys.readouterr().err.split("\r")
    assert before == "depth: 50 of 60 results are there from before; going on with the rest.\n"
    assert now.strip() == "depth: 51 of 60, 2 min left"  # nine times 10 s
    NetworkProgress("depth", clock)(60, 60)
    assert "nothing is left to measure" in capsys.readouterr().err


def test_reading(capsys, terminal):
    show = reading_progress()
    for done in range(1, 251):
        show("reading", done, 250)
    assert capsys.readouterr().err == "\rreading: 100 of 250\rreading: 200 of 250\rreading: 250 of 250\n"


def test_reading_is_silent_where_there_is_no_terminal(capsys):
    reading_progress()("reading", 100, 100)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("raised", "code", "text"),
    [
        (UserError("no such\nthing."), 2, "error: no such thing.\n"),
        (KeyboardInterrupt(), 130, "error: interrupted; what was saved is kept.\n"),
    ],
)
def test_mistakes_and_interruptions_are_one_line(raised, code, text):
    @click.group(cls=Commands)
    def group():
        pass

    @group.command()
    def fail():
        raise raised

    result = CliRunner().invoke(group, ["fail"])
    assert result.exit_code == code and text in result.output and result.output.count("\n") == 1


def test_an_interruption_names_resume_where_the_command_has_it():
    @click.group(cls=Commands)
    def group():
        pass

    @group.command()
    @click.option("--resume", is_flag=True)
    def stop(resume):
        raise KeyboardInterrupt

    assert "is kept, go on with --resume." in CliRunner().invoke(group, ["stop"]).output


def test_a_package_that_was_left_out_is_named():
    @click.group(cls=Commands)
    def program():
        pass

    def needing(name):
        def command():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        return command

    program.command("train")(needing("torch"))
    program.command("broken")(needing("onceforall.missing"))
    result = CliRunner().invoke(program, ["train"])
    assert result.exit_code == 2
    assert result.output == "error: this needs the package torch, which is not installed: pip install onceforall.\n"
    assert isinstance(CliRunner().invoke(program, ["broken"]).exception, ModuleNotFoundError), "a defect stays one"
