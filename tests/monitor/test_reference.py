"""The reference pages, the dashboard and the alerts speak of what the program has, and leave nothing of it out."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from datastore_dumper.monitor.metrics import REGISTRY
from datastore_dumper.monitor.reference import documented, reference_page

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy/prometheus/alerts.yaml"
DASHBOARD = ROOT / "deploy/grafana/dashboard.json"
LEVELS = ("debug", "info", "warning", "error", "exception")

METRICS = {sample: each for each in documented() for sample in each.samples}


def test_the_page_of_metrics_is_the_programs() -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
    assert page == reference_page(), "run: python -m datastore_dumper.monitor.reference docs/reference/metrics.md"


def test_every_metric_is_registered_and_documented() -> None:
    families = {f"{f.name}_total" if f.type == "counter" else f.name for f in REGISTRY.collect()}
    assert {each.name for each in documented()} == {name for name in families if not name.startswith("process_")}
    for each in documented():
        assert each.says.endswith("."), each.name
        assert not {"resource", "resource_id", "table", "key"} & set(each.labels), "labels must be bounded"


def expressions() -> Iterator[tuple[str, str]]:
    for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_alerts_and_panels_name_metrics_that_exist(where: str, expression: str) -> None:
    named = re.findall(r"\b(datastore_dumper_\w+|process_\w+)(?:\{([^}]*)\})?", expression)
    assert named, f"{where} asks for nothing of ours"
    for name, matchers in named:
        if name.startswith("process_"):
            assert name in {"process_cpu_seconds_total", "process_resident_memory_bytes"}
            continue
        assert name in METRICS, f"{where}: there is no metric {name}"
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert used <= {*METRICS[name].labels, "instance"}, f"{where}: {name} has no labels {used}"
    grouped = {label.strip() for each in re.findall(r"by \(([^)]*)\)", expression) for label in each.split(",")}
    known = {"instance", "le"} | {label for name, _ in named if name in METRICS for label in METRICS[name].labels}
    assert grouped <= known, f"{where}: {grouped}"


def test_every_metric_is_drawn_or_watched() -> None:
    """What nobody looks at need not be measured. Exempt: what a query by hand is for."""
    text = "\n".join(expression for _, expression in expressions())
    by_hand = {
        "config_last_reload_success_timestamp_seconds",
        "heartbeats_total",
        "last_look_timestamp_seconds",
        "last_publish_timestamp_seconds",
        "look_duration_seconds",
        "garbage_deleted_total",
        "storage_verified",
    }
    unseen = {
        each.name.removeprefix("datastore_dumper_")
        for each in documented()
        if not any(re.search(rf"\b{sample}\b", text) for sample in each.samples)
    }
    assert unseen == by_hand


def test_the_dashboard_has_room_for_each_panel() -> None:
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    taken: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert cell not in taken, f"{panel['title']} lies on {taken.get(cell)}"
            taken[cell] = panel["title"]


@pytest.mark.parametrize(
    "command", [("check", "rules", str(ALERTS)), ("test", "rules", str(Path(__file__).with_name("alerts.test.yaml")))]
)
def test_promtool_has_no_complaint(command: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        # Continuous integration installs it (.ci/run).
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("there is no promtool: install prometheus")
    done = subprocess.run([promtool, *command], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried() -> None:
    """For each of them promtool's tests have a time when it fires, and one when it does not."""
    tried = yaml.safe_load(Path(__file__).with_name("alerts.test.yaml").read_text(encoding="utf-8"))["tests"]
    cases = [case for test in tried for case in test["alert_rule_test"]]
    names = {rule["alert"] for g in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in g["rules"]}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


def events_of_the_code() -> dict[str, tuple[set[str], set[str]]]:
    """Levels and keys of every event."""
    found: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for path in (ROOT / "listener").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            for name, levels, keys in logged(call):
                found[name][0].update(levels)
                found[name][1].update(keys)
    return dict(found)


def logged(call: ast.Call) -> Iterator[tuple[str, set[str], set[str]]]:
    """The events that a call logs, with their levels and keys."""
    function = ast.unparse(call.func)
    owner, _, method = function.rpartition(".")
    keys = {each.arg for each in call.keywords if each.arg} - {"exc_info"}
    first = call.args[0] if call.args else ast.Constant(None)
    if owner == "log" and method in LEVELS:
        names = list(constants(first))
        # `standby` logs what its error says: that event is named where the error is made.
        assert names or ast.unparse(first) == "event", f"an event without a name: {ast.unparse(call)}"
        yield from ((name, {"error" if method == "exception" else method}, keys) for name in names)
    elif function == "report" and isinstance(first, ast.Constant):
        yield str(first.value), {"info", "warning"}, keys
    elif function in ("StandbyUnusableError", "self._give_up") and isinstance(first, ast.Constant):
        yield str(first.value), {"warning"}, {"error", "resource_id"}


def constants(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.IfExp):
        yield from constants(node.body)
        yield from constants(node.orelse)


def events_of_the_page() -> dict[str, tuple[set[str], set[str]]]:
    page = (ROOT / "docs/reference/events.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \| ?([\w, `]*) ?\| (.+) \|$", page, flags=re.MULTILINE)
    assert len(rows) == len({row[0] for row in rows}), "an event is listed twice"
    assert all(row[3].endswith((".", "?")) for row in rows)
    return {name: (set(levels.split(", ")), set(re.findall(r"\w+", keys))) for name, levels, keys, _ in rows}


def test_every_event_is_listed_and_every_listed_one_exists() -> None:
    code, page = events_of_the_code(), events_of_the_page()
    assert code.keys() == page.keys()
    assert {name: {"levels": levels, "keys": keys} for name, (levels, keys) in code.items()} == {
        name: {"levels": levels, "keys": keys} for name, (levels, keys) in page.items()
    }
