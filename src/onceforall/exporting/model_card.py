"""A bundle's README: a model card in the form of Hugging Face, YAML in front, from what `model.json` says."""

import json
from collections.abc import Mapping
from typing import Any

from onceforall.bundles import describe

__all__ = ["model_card"]

TASKS = {"classification": "image-classification", "segmentation": "image-segmentation"}


def model_card(about: Mapping[str, Any], picture: str | None = None) -> str:
    """The text of the card.

    Args:
        about: what `model.json` says.
        picture: name of the picture in the bundle, if there is one.
    """
    task, engine = about["task"]["kind"], about["engine"]
    name = f"onceforall {task}, {about['architecture_text']}"
    lines = [
        "---",
        "library_name: onceforall",
        f"pipeline_tag: {TASKS[task]}",
        f"tags: {json.dumps(['onceforall', 'once-for-all', engine, about['precision']])}",
    ]
    metrics = about["metrics"]
    if metrics is not None:
        lines += [
            "model-index:",
            f"- name: {json.dumps(name)}",
            "  results:",
            f"  - task: {{type: {TASKS[task]}}}",
            f"    dataset: {json.dumps({'name': metrics['data'], 'type': metrics['data'], 'split': metrics['split']})}",
            f"    metrics: {json.dumps([{'type': metrics['name'], 'value': metrics['after']}])}",
        ]
    lines += ["---", "", f"# {name}", ""]
    lines += [f"- {label}: {text}" for label, text in describe(about)]
    if not about["accepted"]:
        lines += ["", f"**It failed its check**: {about['objection']}"]
    if picture is not None:
        lines += ["", f"![its place among other sub-networks]({picture})"]
    lines += ["", "## Use", "", *_use(engine, about["parts"][0]), "", "## Limits", "", *_limits(about), ""]
    return "\n".join(lines)


def _use(engine: str, part: str) -> list[str]:
    if engine == "torch":
        return ["```python", "import torch", "", f'network = torch.export.load("{part}").module()', "```"]
    return [
        "Without PyTorch:",
        "",
        "```",
        "pip install -r requirements.txt",
        "pip install --no-deps onceforall",
        "onceforall inspect .",
        "onceforall predict . FILES...",
        "```",
    ]


def _limits(about: Mapping[str, Any]) -> list[str]:
    known = (
        "It was judged on no labelled data." if about["metrics"] is None else "Its numbers hold for data like these."
    )
    return [
        f"{known} Inputs are prepared as `model.json` says; anything else gives other answers. Licence and",
        "permitted use of the training data apply. It is no medical device.",
    ]
