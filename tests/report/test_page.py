import json
import re
import sys

import pytest

from onceforall.errors import UserError
from onceforall.report import write_report
from onceforall.report.page import Section, Table, render_page
from report_runs import PHASES, Page, write_evaluation, write_ledger, write_lines, write_run

ATTACKS = [
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "<svg onload=alert(3)>",
    "'; alert(4); //",
    '<a href="javascript:alert(5)">press</a>',
    "{{ 1000 + 37 }}{% for %}",
    "<!-- ]]> --!><b>",
]


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


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


@pytest.mark.parametrize("package", ["jinja2", "plotly.offline"])
def test_missing_packages_are_named(run, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"needs {package}: pip install 'onceforall\[report\]'"):
        write_report(run)


def test_cells_that_are_pairs_are_sorted_by_their_number(tmp_path):
    table = Table(["name", "size"], [["a", ("1k", 1000)], ["b", ("–", "")]], "Sizes", sortable=True)
    path = tmp_path / "page.html"
    path.write_text(render_page("Title", "Status", [("what", "value", "more")], [Section("One", tables=[table])]))
    page = Page(path)
    assert [value for _, name, value in page.attributes if name == "data-value"] == ["1000", ""]
    assert page.tags.count("button") == 2
    assert "Title Status what value more One One Sizes name size a 1k b –" in page.text


def test_a_picture_is_taken_into_the_page(tmp_path):
    (tmp_path / "one.png").write_bytes(b"\x89PNG")
    section = Section("Cases", pictures=[('best "<b>"', tmp_path / "one.png")])
    (tmp_path / "page.html").write_text(render_page("Title", "done", [], [section]))
    page = Page(tmp_path / "page.html")
    found = {name: value for tag, name, value in page.attributes if tag == "img"}
    assert found == {"alt": 'best "<b>"', "src": "data:image/png;base64,iVBORw=="}
