"""Oracles: the page read by an HTML parser, and the numbers that were put into the run directory."""

import json
import re
import shutil
import sys
from dataclasses import asdict
from html.parser import HTMLParser

import numpy as np
import pytest

from onceforall.architecture import Architecture
from onceforall.errors import UserError
from onceforall.evaluation.evaluate import Evaluation
from onceforall.evaluation.metrics import classification_metrics
from onceforall.evaluation.results import write_results
from onceforall.layers.elastic import Cost
from onceforall.report import write_report
from onceforall.search_space import SearchSpace
from onceforall.training.phases import progressive_shrinking

SPACE = SearchSpace.build(2, resolutions=(24, 32), depths=(1, 2), kernel_sizes=(3, 5), expand_ratios=(3, 4, 6))
PHASES = progressive_shrinking(SPACE, total_epochs=8)
CLASSES = ["cat", "dog", "eel"]
ATTACKS = [
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "<svg onload=alert(3)>",
    "'; alert(4); //",
    '<a href="javascript:alert(5)">press</a>',
    "{{ 1000 + 37 }}{% for %}",
    "<!-- ]]> --!><b>",
]


def write_lines(folder, phases=PHASES, metric=0.5):
    step, lines = 0, []
    for index, phase in enumerate(phases):
        for epoch in range(1, phase.total_epochs + 1):
            step += 10
            kinds = ("smallest", "largest", "random_1") if index else ("largest",)
            scores = {kind: {"accuracy": metric + 0.01 * step / 10, "log_loss": 1 / step} for kind in kinds}
            line = {"phase": phase.name, "index": index, "epoch": epoch, "step": step, "train_loss": 2 / step}
            lines.append(line | ({"validation": scores} if epoch == phase.total_epochs else {}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_ledger(folder, phases=PHASES):
    parts = {"student": 60.0, "teacher": 30.0, "data": 6.0, "validation": 3.0, "calibration": 2.0, "checkpoint": 1.0}
    entry = {"seconds": parts | {"other": 18.0}, "samples": 4000, "macs": 5 * 10**9, "steps": 40}
    extra = {"peak_memory_bytes": 600_000_000, "activation_bytes": 42_000_000}
    entries = [{"phase": phase.name, **entry, **extra} for phase in phases]
    entries[0]["joules"] = 1234.0
    (folder / "ledger.json").write_text(json.dumps(entries))


def write_run(folder, classes=CLASSES, name="cats", settings=None, phases=PHASES):
    counts = {split: {str(c): 10 * (i + 1) for i, c in enumerate(classes)} for split in ("train", "validation", "test")}
    data = {"name": name, "classes": classes, "channels": 1, "counts": {s: sum(c.values()) for s, c in counts.items()}}
    data |= {"counts_per_class": counts, "groups": {"train": 7}, "preparation": {"fit": "pad", "mean": [0.5]}}
    network = {"class": "OFAMobileNetV3", "options": {"num_classes": 3}, "space": SPACE.to_dict()}
    run = {"settings": settings or {}, "network": network, "phases": [phase.to_dict() for phase in phases]}
    run |= {"options": {"seed": 7, "max_minutes": None}, "data": data, "environment": {"cpu": name, "gpus": []}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(run))


def write_evaluation(folder, classes=CLASSES, files="image", split="test", names=("largest", "smallest", "random_1")):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, len(classes), 50)
    evaluations = []
    for number in range(len(names)):
        scores = rng.random((50, len(classes))) + 0.8 * np.eye(len(classes))[labels]
        scores /= scores.sum(1, keepdims=True)
        architecture = [SPACE.largest(), SPACE.smallest(), SPACE.uniform(kernel_size=3)][number]
        cost = Cost(10**5 * (3 - number), 10**6 * (3 - number), 10**4, 4 * 10**5 * (3 - number))
        metrics = classification_metrics(scores, labels)
        evaluations.append(Evaluation(architecture, cost, metrics, 512, scores if number == 0 else None))
    about = {"split": split, "labels": labels, "files": [f"{files}{i}" for i in range(50)], "classes": classes}
    write_results(folder, evaluations, list(names), **about, facts={"rule": files, "environment": {}})
    return evaluations


@pytest.fixture
def run(tmp_path):
    """A finished and evaluated run."""
    folder = tmp_path / "run"
    write_run(folder, settings={"recipe": {"name": "digits-ps", "network": {"width_mult": 0.5}}})
    write_lines(folder)
    write_ledger(folder)
    write_evaluation(folder)
    return folder


class Page(HTMLParser):
    """What a browser makes of a page: elements, texts, scripts."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts, self.scripts, self.attributes = [], [], [], []
        self.open = []
        self.feed(path.read_text())
        self.close()
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)
        if tag == "script":
            self.scripts.append([dict(attrs), ""])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1][1] += data
        elif not (self.open and self.open[-1] == "style"):
            self.texts.append(data)

    @property
    def figures(self):
        return json.loads(self.scripts[0][1])


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def test_a_finished_run_is_told_whole(run):
    path = write_report(run)
    assert path == run / "report.html"
    page = Page(path)
    assert page.open == []
    headings = ["What was trained", "Schedule", "Curves", "Results: test", "What it cost", "Machine and software"]
    for text in (
        *headings,
        "digits-ps on cats",
        "Finished: 5 phases, 8 epochs, 80 steps.",
        "largest, as phase 1 left it",
        f"{SPACE.size():,} different sub-networks; resolutions 24, 32; kernel sizes 3, 5; depths 1, 2; expand ratios",
        "cats: 3 classes, 1 channel(s)",
        "60 train, 60 validation, 60 test",
        "recipe.network.width_mult",
        "SGD, momentum 0.9, decay 3e-05",
        str(SPACE.largest()),
        "600MB",
        "42MB",
        "1234 J",
        "10 min 0 s",  # five phases of two minutes
    ):
        assert text in page.text, text
    assert "max minutes" not in page.text, "what is not set is left out"
    for missing in ("not done", "No epoch", "Nothing was evaluated"):
        assert missing not in page.text


def test_numbers_in_the_table_are_those_that_were_measured(run):
    evaluations = write_evaluation(run)
    page = Page(write_report(run))
    for evaluation in evaluations:
        assert f"{100 * evaluation.metrics['accuracy']:.2f} %" in page.text
        assert f"{evaluation.metrics['log_loss']:.4g}" in page.text
    values = [value for tag, name, value in page.attributes if (tag, name) == ("td", "data-value")]
    assert {"3000000", "2000000", "1000000"} <= set(values), "tables are sorted by whole numbers, not by what is shown"


def test_table_begins_with_what_one_looks_for(run):
    page = Page(write_report(run))
    head = page.text[page.text.index("a click on a heading") :]
    order = ["name", "accuracy", "multiply-adds", "parameters", "resolution", "front", "architecture"]
    places = [head.index(word) for word in order]
    assert places == sorted(places)


def test_figures_hold_curves_phases_front_confusion_and_costs(run):
    loss, accuracy, log_loss, front, confusion, costs = Page(write_report(run)).figures
    assert loss["data"][0]["x"] == [10 * i for i in range(1, 9)]
    assert loss["data"][0]["y"] == [2 / x for x in loss["data"][0]["x"]]
    starts = np.cumsum([0, *(10 * phase.total_epochs for phase in PHASES[:-1])]).tolist()
    assert [(mark["text"], mark["x"]) for mark in loss["layout"]["annotations"]] == [
        (phase.name, start) for phase, start in zip(PHASES, starts, strict=True)
    ]
    assert [shape["x0"] for shape in loss["layout"]["shapes"]] == starts[1:]
    assert [curve["name"] for curve in accuracy["data"]] == ["random", "largest", "smallest"]
    assert [len(curve["x"]) for curve in accuracy["data"]] == [4, 5, 4]
    assert "log loss" in log_loss["caption"]
    off, on = front["data"]
    assert sorted(off["x"] + on["x"]) == [10**6, 2 * 10**6, 3 * 10**6]
    assert any(str(SPACE.largest()).split(" | ")[1] in text for text in on["text"] + off["text"])
    matrix = json.loads((run / "results/test.json").read_text())["details"]["largest"]["confusion_matrix"]
    assert confusion["data"][0]["text"] == matrix
    np.testing.assert_allclose(np.sum(confusion["data"][0]["z"], axis=1), 1)
    assert [bar["name"] for bar in costs["data"]][:2] == ["student", "teacher"]
    assert costs["data"][1]["x"] == [30.0] * 5  # seconds, for no phase takes more than two minutes
    assert costs["data"][0]["y"] == [phase.name for phase in PHASES]


def test_page_asks_the_network_for_nothing(run):
    page = Page(write_report(run))
    assert not {"link", "img", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    links = [value for _, name, value in page.attributes if name in ("href", "src", "action")]
    assert links
    assert all(re.fullmatch(r"#s\d+", link) for link in links)
    (policy,) = [value for _, name, value in page.attributes if name == "content" and "default-src" in value]
    assert policy.startswith("default-src 'none'; script-src 'nonce-")
    assert sum("plotly.js v" in text for _, text in page.scripts) == 1
    assert "url(" not in re.sub(r"<script.*?</script>", "", (run / "report.html").read_text(), flags=re.DOTALL)


def test_names_are_text_and_never_code(tmp_path):
    attack = " ".join(ATTACKS)
    write_run(tmp_path, ATTACKS, attack, {"recipe": {"name": attack, attack: [attack]}})
    write_lines(tmp_path)
    text = (tmp_path / "metrics.jsonl").read_text()
    quoted = json.dumps(attack)
    text = text.replace('"random_1"', quoted).replace(f'"{PHASES[1].name}"', quoted)
    (tmp_path / "metrics.jsonl").write_text(text)
    write_ledger(tmp_path)
    ledger = (tmp_path / "ledger.json").read_text().replace(f'"{PHASES[1].name}"', quoted)
    (tmp_path / "ledger.json").write_text(ledger)
    write_evaluation(tmp_path, ATTACKS, attack, names=("largest", attack))
    page = Page(write_report(tmp_path))
    assert page.open == []
    assert "alert" not in " ".join(f"{name} {value}" for _, name, value in page.attributes)
    assert not {"img", "svg", "b"} & set(page.tags)
    assert all(name[:2] != "on" for _, name, _ in page.attributes)
    nonces = {attributes.get("nonce") for attributes, _ in page.scripts[1:]}
    assert len(page.scripts) == 3
    assert len(nonces) == 1
    assert page.scripts[0][0] == {"type": "application/json", "id": "figures"}, "data, which no browser runs"
    assert "alert" not in page.scripts[1][1] + page.scripts[2][1]
    for one in ATTACKS:
        assert " ".join(one.split()) in page.text, "it is shown as it is"
    assert "1037" not in page.text, "names are no templates"
    for text in strings(page.figures):
        assert "<" not in re.sub(r"<br>|<extra></extra>", "", text), "plotly reads tags in its texts"
    assert any("alert(3)" in text for text in strings(page.figures))
    again = Page(write_report(tmp_path))
    assert again.scripts[1][0]["nonce"] != page.scripts[1][0]["nonce"]


def test_an_unfinished_run_says_what_is_missing(run):
    shutil.rmtree(run / "results")
    write_lines(run, PHASES[:2])
    write_ledger(run, PHASES[:1])
    page = Page(write_report(run))
    name = PHASES[1].name
    epochs = PHASES[1].total_epochs
    assert f"Unfinished: epoch {epochs} of {epochs} in phase 2 of 5 ({name}) is done." in page.text
    assert "4 of 5 phases are not done." in page.text
    assert "Nothing was evaluated yet" in page.text
    (run / "ledger.json").unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines()[:1]
    (run / "metrics.jsonl").write_text(json.dumps({**json.loads(lines[0]), "validation": {}}) + '\n{"phase": "fu')
    page = Page(write_report(run))
    assert "No validation was done yet." in page.text
    assert "No phase is done yet." in page.text
    (run / "metrics.jsonl").unlink()
    page = Page(write_report(str(run)))
    assert "Unfinished: no epoch of 5 phases is done." in page.text
    assert "No epoch is done yet." in page.text


def test_numbers_that_are_none_do_not_break_it(run):
    contents = json.loads((run / "results/test.json").read_text())
    contents["rows"][1] |= {"auc": None, "accuracy": None, "accuracy_low": None, "accuracy_high": None}
    contents["rows"][0]["latency_ms"] = 1.5
    (run / "results/test.json").write_text(json.dumps(contents))
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(re.sub(r'"log_loss": [\d.]+', '"log_loss": NaN', text))
    figures = Page(write_report(run)).figures
    assert figures[2]["data"][0]["y"][0] is None
    assert len([figure for figure in figures if "latency" in figure["caption"]]) == 1


def test_what_every_phase_trains_is_named(run):
    page = Page(write_report(run))
    rows = page.text[page.text.index("Schedule") :]
    for text in ("resolutions 24, 32; kernel sizes 3, 5; depths 1, 2; expand ratios 4, 6", "1 (largest)", "1 (random)"):
        assert text in rows
    described = json.loads((run / "run.json").read_text())
    described["phases"][2]["teacher"] = asdict(PHASES[2].teacher) | {"source": "some/folder/teacher.safetensors"}
    (run / "run.json").write_text(json.dumps(described))
    page = Page(write_report(run))
    assert "file teacher.safetensors" in page.text
    assert "some/folder" not in page.text


def test_architectures_of_the_table_are_readable(run):
    rows = json.loads((run / "results/test.json").read_text())["rows"]
    page = Page(write_report(run))
    assert all(str(Architecture.from_dict(row["architecture"])) in page.text for row in rows)


def test_what_cannot_be_reported_is_named(tmp_path, run):
    with pytest.raises(UserError, match=r"holds no run: run\.json is missing"):
        write_report(tmp_path)
    (run / "ledger.json").write_text("[{")
    with pytest.raises(UserError, match=r"ledger\.json is damaged"):
        write_report(run)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("package", ["jinja2", "plotly.offline"])
def test_missing_packages_are_named(run, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"needs {package}: pip install 'onceforall\[report\]'"):
        write_report(run)
