"""`onceforall finetune` as it is typed."""

from click.testing import CliRunner

from onceforall.cli import main

TINY = ("network.width_mult=0.25", "network.resolutions=[16]", "network.depths=[1]", "network.kernel_sizes=[3]")
TINY += ("network.expand_ratios=[3]", "phases.all.batch_size=16", "run.calibration_images=16", "run.threads=1")
TINY += ("schedule.total_epochs=1", "schedule.warmup_epochs=0")


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_a_sub_network_is_tuned_stopped_and_goes_on(photos, other_photos, tmp_path, monkeypatch):
    parent = tmp_path / "parent"
    words = [word for text in TINY for word in ("--set", text)]
    result = invoke("train", "images-sandwich", "--data", photos, "--out", parent, *words)
    assert result.exit_code == 0, result.output
    words = ("finetune", parent, "smallest", "--epochs", 2, "--distill", "--all-data")
    stopped = invoke(*words, "--max-minutes", "0")
    assert stopped.exit_code == 0 and "stopped after 0 minutes" in stopped.output and "done" not in stopped.output
    result = invoke(*words, "--resume")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "parent-tuned"
    expected = ("phases: tune (2 epochs)", "on all data: ", "accuracy", "before", "after: parent-tuned-all")
    for text in (*expected, f"next: onceforall export {folder}-all largest"):
        assert text in result.output
    assert invoke("evaluate", folder, "-n", 0).exit_code == 0
    words = ("--data", other_photos, "--epochs", 1, "--frozen-epochs", 1, "--freeze-stem", "--out", tmp_path / "other")
    result = invoke("finetune", parent, "largest", *words)
    assert result.exit_code == 0, result.output
    assert "a head for 2 classes is new" in result.output and "head (1 epochs), tune (1 epochs)" in result.output
    before = next(line for line in result.output.splitlines() if line.startswith("before"))
    assert before.split() == ["before", "none", "none"]
    monkeypatch.chdir(parent)
    refused = invoke("finetune", ".", "middle")
    assert refused.exit_code == 2 and refused.output.count("\n") == 1
