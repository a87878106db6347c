"""One archive of a family: it tells nothing of single files, and another machine searches it without data."""

import hashlib
import json
import shutil
import zipfile

import pytest
from click.testing import CliRunner

from exit_runs import exit_run
from onceforall.cli import main
from onceforall.deploying.packaging import package_run, without_paths
from onceforall.errors import UserError
from onceforall.evaluation.cost import cost
from onceforall.evaluation.result_cache import digest_of_weights
from onceforall.families import open_family, unpack
from onceforall.runs import chosen_architectures, evaluate_run, open_run
from onceforall.searching.predictor import fit_predictor
from onceforall.searching.sampling import spread_architectures


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run with results and a predictor."""
    folder = exit_run(tmp_path_factory.mktemp("runs") / "run")
    run = open_run(folder)
    evaluate_run(run, chosen_architectures(run.supernet.space, random_ones=1, seed=0), split="validation")
    space = run.supernet.space
    drawn = spread_architectures(space, 20, lambda each: cost(run.supernet, each).macs, seed=0)
    scores = [0.5 + cost(run.supernet, each).macs / 1e8 for each in drawn]
    facts = {"weights": digest_of_weights(run.supernet)}
    fitting = fit_predictor(space, drawn, scores, metric="accuracy", images=100, higher_is_better=True, facts=facts)
    fitting.predictor.save(folder / "search" / "predictor.json")
    return folder


@pytest.fixture(scope="module")
def archive(run_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "family.zip"
    made = package_run(run_dir, out)
    assert made.predictor and made.note == "" and made.bytes == out.stat().st_size
    return out


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_it_holds_what_is_needed_and_nothing_of_single_files(run_dir, archive):
    described = json.loads((run_dir / "run.json").read_text())
    with zipfile.ZipFile(archive) as file:
        texts = {name: file.read(name) for name in file.namelist()}
    assert {"family.json", "run.json", "README.md", "models/predictor.json", "results/validation.json"} <= set(texts)
    assert [name for name in texts if name.endswith(".safetensors")] == ["checkpoints/1-sandwich-best.safetensors"]
    assert not any("predictions" in name or "splits" in name or "metrics" in name for name in texts)
    together = b"\n".join(texts.values())
    names = [line.split(",")[0] for line in (run_dir / "splits.csv").read_text().splitlines()[1:4]]
    for secret in (str(run_dir), str(run_dir.parent), *names, described["environment"]["os"]):
        assert secret.encode() not in together
    about = json.loads(texts["family.json"])
    assert about["classes"] == described["data"]["classes"] and about["metric"] == "accuracy"
    assert about["files"] == {n: hashlib.sha256(t).hexdigest() for n, t in texts.items() if n != "family.json"}


def test_the_same_run_gives_the_same_archive(run_dir, archive, tmp_path):
    """But for the order of entries in the head of the file of weights, and so its checksum."""
    package_run(run_dir, tmp_path / "again.zip")
    with zipfile.ZipFile(archive) as one, zipfile.ZipFile(tmp_path / "again.zip") as other:
        assert one.namelist() == other.namelist()
        same = [name for name in one.namelist() if one.read(name) == other.read(name)]
    assert set(one.namelist()) - set(same) <= {"family.json", "checkpoints/1-sandwich-best.safetensors"}


def test_another_machine_searches_without_data(run_dir, archive, tmp_path):
    there = tmp_path / "family.zip"
    shutil.copy(archive, there)
    result = invoke("search", there, "--max-macs", "0.5M", "--candidates", "200", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    family = open_family(tmp_path / "family")
    assert digest_of_weights(family.supernet) == digest_of_weights(open_run(run_dir).supernet)
    assert answer["macs"] <= 500_000 and not answer["measured"] and answer["export"].endswith("--data PATH")
    fitting = [each for each in family.supernet.space.grid() if cost(family.supernet, each[0]).macs <= 500_000]
    best = max(cost(family.supernet, each).macs for each, _ in fitting)
    assert answer["macs"] >= 0.9 * best  # the predictor was taught that more multiply-adds are better
    assert (tmp_path / "family" / "search" / "front.html").is_file()
    words = invoke("search", tmp_path / "family", "--max-macs", "1K", "--candidates", "200")
    assert words.exit_code == 2 and "no network that was found has" in words.output


def test_an_archive_without_a_predictor_says_what_is_missing(run_dir, tmp_path):
    shutil.copytree(run_dir, tmp_path / "run")
    (tmp_path / "run" / "search" / "predictor.json").unlink()
    result = invoke("package", tmp_path / "run")
    assert result.exit_code == 0 and "it has no predictor" in result.output
    (tmp_path / "other").mkdir()
    shutil.move(tmp_path / "run-family.zip", tmp_path / "other" / "family.zip")
    result = invoke("search", tmp_path / "other" / "family.zip", "--max-macs", "1M")
    assert result.exit_code == 2 and "without data no network is measured" in result.output


def test_export_from_it_needs_data(archive, tmp_path):
    """The digits come with the package; what needs other data names --data."""
    folder = unpack(archive, tmp_path / "family")
    described = json.loads((folder / "run.json").read_text())
    described["settings"]["recipe"]["data"]["kind"] = "folder"
    (folder / "run.json").write_text(json.dumps(described))
    result = invoke("export", folder, "smallest")
    assert result.exit_code == 2 and "--data" in result.output and "calibrated" in result.output


def test_with_data_it_is_a_run(archive, tmp_path):
    run = open_run(unpack(archive, tmp_path / "family"))  # of digits no path is needed
    results = evaluate_run(run, {"smallest": run.supernet.space.smallest()}, split="test")
    assert len(results["rows"]) == 1


def test_a_predictor_of_other_weights_is_refused(run_dir, tmp_path):
    shutil.copytree(run_dir, tmp_path / "run")
    file = tmp_path / "run" / "search" / "predictor.json"
    contents = json.loads(file.read_text())
    file.write_text(json.dumps(contents | {"facts": {"weights": "0" * 32}}))
    with pytest.raises(UserError, match="was fitted to other weights"):
        package_run(tmp_path / "run", tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_a_predictor_of_another_metric_is_left_out(run_dir, tmp_path):
    shutil.copytree(run_dir, tmp_path / "run")
    file = tmp_path / "run" / "search" / "predictor.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"metric": "log_loss"}))
    made = package_run(tmp_path / "run", tmp_path / "out.zip")
    assert not made.predictor and "models/predictor.json" not in made.files
    assert made.note.endswith("predicts log_loss and not accuracy, by which networks are chosen; it was left out.")
    result = invoke("package", tmp_path / "run")
    assert made.note in result.output and "it has no predictor" in result.output


def test_names_and_tables_that_do_not_fit_are_refused(run_dir, tmp_path):
    with pytest.raises(UserError, match=r"ends in \.zip"):
        package_run(run_dir, tmp_path / "family.tar")
    (tmp_path / "cpu.json").write_text("{}")
    with pytest.raises(UserError, match="is no latency table"):
        package_run(run_dir, tmp_path / "family.zip", latency_tables=[tmp_path / "cpu.json"])
    with pytest.raises(UserError, match="holds no run"):
        package_run(tmp_path, tmp_path / "family.zip")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a/b/c.pt", "c.pt"),
        ("~/x", "x"),
        ("C:\\a\\b", "b"),
        ("../up/d.csv", "d.csv"),
        ("n/a", "n/a"),
        ("in_place",) * 2,
    ],
)
def test_paths_are_cut_to_their_last_part(text, expected):
    assert without_paths({"a": [text]}) == {"a": [expected]}


def test_relative_files_of_recipe_and_phases_are_cut_too(run_dir, tmp_path):
    shutil.copytree(run_dir, tmp_path / "run")
    described = json.loads((run_dir / "run.json").read_text())
    recipe = described["settings"]["recipe"]
    recipe["network"]["weights"] = "runs/JohnDoe/start.safetensors"
    recipe["schedule"] |= {"teacher": "runs/JohnDoe/one.safetensors", "start_teacher": "runs\\JohnDoe\\two.safetensors"}
    recipe["phases"] = {"all": {"teacher": {"source": "runs/JohnDoe/three.safetensors"}}}
    described["phases"][0]["teacher"]["source"] = "runs/JohnDoe/four.safetensors"
    (tmp_path / "run" / "run.json").write_text(json.dumps(described))
    package_run(tmp_path / "run", tmp_path / "family.zip")
    with zipfile.ZipFile(tmp_path / "family.zip") as file:
        text = file.read("run.json").decode()
    assert "JohnDoe" not in text
    for name in ("start", "one", "two", "three", "four"):
        assert f'"{name}.safetensors"' in text
