"""Run directories written by hand, and a page as a browser reads it.

The numbers are made up, so that a test knows what has to stand in the page without training anything.
"""

import json
from html.parser import HTMLParser

import numpy as np

from onceforall.evaluation.evaluate import Evaluation
from onceforall.evaluation.metrics import classification_metrics
from onceforall.evaluation.results import write_results
from onceforall.layers.elastic import Cost
from onceforall.search_space import SearchSpace
from onceforall.training.schedules import progressive_shrinking

SPACE = SearchSpace.build(2, resolutions=(24, 32), depths=(1, 2), kernel_sizes=(3, 5), expand_ratios=(3, 4, 6))
PHASES = progressive_shrinking(SPACE, total_epochs=8)
CLASSES = ["cat", "dog", "eel"]


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
