"""`onceforall package` and `unpack` as they are typed; what an archive holds is tested in test_packaging."""

from click.testing import CliRunner

from onceforall.cli import main
from onceforall.recipes import make_recipe
from tiny_runs import one_phase, run, two_stages


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_an_archive_is_made_and_unpacked(tmp_path, monkeypatch):
    supernet = two_stages()
    settings = {"recipe": make_recipe("images-ps", (), str(tmp_path / "gone")).to_dict()}
    run(tmp_path / "run", [one_phase(supernet.space)], supernet=supernet, settings=settings)
    monkeypatch.chdir(tmp_path / "run")
    result = invoke("package", ".")
    assert result.exit_code == 0 and "it has no predictor" in result.output, result.output
    result = invoke("unpack", tmp_path / "run-family.zip", "--out", tmp_path / "family")
    assert result.exit_code == 0 and "no predictor, 0 latency table(s)" in result.output, result.output
    assert str(tmp_path / "gone") not in (tmp_path / "family" / "run.json").read_text()
    result = invoke("export", tmp_path / "family", "smallest")
    assert result.exit_code == 2 and "--data" in result.output
    again = invoke("unpack", tmp_path / "run-family.zip", "--out", tmp_path / "family")
    assert again.exit_code == 2 and "holds something else" in again.output


def test_what_is_no_run_and_no_archive_is_told(tmp_path):
    result = invoke("package", tmp_path)
    assert result.exit_code == 2 and "holds no run" in result.output
    result = invoke("unpack", tmp_path / "absent.zip")
    assert result.exit_code == 2 and "there is no such file" in result.output
    result = invoke("unpack", ".")
    assert result.exit_code == 2 and result.output.count("\n") == 1
