"""Prometheus's rules, the dashboard and the compose profile, with a real Prometheus and a real server."""

from __future__ import annotations

import io
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import yaml
from PIL import Image
from real_server import ROOT, Server, StartServer, free_port

FOLDER = ROOT / "service" / "deploy" / "observability"
DASHBOARD = json.loads((FOLDER / "grafana" / "dashboards" / "digitserve.json").read_text())
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RULES = [
    rule for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"] for rule in group["rules"]
]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}


def until(condition: Callable[[], Any], within_s: float = 60) -> Any:
    """What `condition` returns once that is true; another process gives no event to wait for."""
    give_up = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < give_up, "it did not come about"
        time.sleep(0.05)
    return found


def promtool(require_program: Callable[[str], Path], *arguments: str, stdin: str = "") -> None:
    command = [str(require_program("promtool")), *arguments]
    done = subprocess.run(command, input=stdin, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_configuration_and_the_rules(require_program: Callable[[str], Path]) -> None:
    promtool(require_program, "check", "config", "--lint=all", "--lint-fatal", str(FOLDER / "prometheus.yml"))
    promtool(require_program, "check", "rules", "--lint=all", "--lint-fatal", str(FOLDER / "rules.yml"))


def test_every_alert_fires_when_it_should_and_a_healthy_service_raises_none(
    require_program: Callable[[str], Path],
) -> None:
    cases = ROOT / "tests" / "service" / "rules_test.yml"
    promtool(require_program, "test", "rules", str(cases))
    fired = set(re.findall(r"alertname: (\w+)", cases.read_text()))
    assert fired == {rule["alert"] for rule in RULES if "alert" in rule}


@dataclass
class Prometheus:
    """A real one, with its configuration but for the targets and the intervals."""

    url: str
    process: subprocess.Popen[bytes]

    def api(self, path: str, **parameters: str) -> Any:
        response = httpx2.get(f"{self.url}/api/v1/{path}", params=parameters)
        document = response.json()
        assert document["status"] == "success", f"{parameters}: {document}"
        return document["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api("query", query=expression)["result"]
        return found

    def value(self, expression: str) -> float | None:
        result = self.query(expression)
        return float(result[0]["value"][1]) if result else None


@pytest.fixture(scope="module")
def server(start_server: StartServer, tiny_models: Path) -> Server:
    return start_server(models_dir=tiny_models, workers=2)


@pytest.fixture(scope="module")
def prometheus(
    require_program: Callable[[str], Path], server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    program = require_program("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "250ms"}
    config["rule_files"] = [str(FOLDER / "rules.yml")]
    [job] = config["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{server.port}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [str(program), f"--config.file={folder}/prometheus.yml", f"--web.listen-address={address}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--storage.tsdb.path={folder}/data"], stdout=log, stderr=subprocess.STDOUT
        )

    def ready() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return httpx2.get(f"http://{address}/-/ready").status_code == 200
        except httpx2.TransportError:
            return False

    until(ready)
    yield Prometheus(f"http://{address}", process)
    process.terminate()
    process.wait(timeout=30)


def picture(label: int) -> bytes:
    pixels = np.full((28, 28), 200, np.uint8)
    pixels[0, 0] = label
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def watched(prometheus: Prometheus, server: Server) -> Prometheus:
    """A Prometheus that has seen traffic of every kind come in between two scrapes."""
    until(lambda: prometheus.value("digitserve_queue_capacity_images") == 2048)

    def traffic() -> None:
        tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 28, 28], "data": [5] * 784}
        with httpx2.Client(base_url=server.url) as client:
            files = [("a", ("a.png", body)) for body in (picture(3), picture(4), b"no picture")]
            assert client.post("/predict?canonical=never", files=files).status_code == 200
            assert client.post("/v2/models/mnist-cnn/infer", json={"inputs": [tensor]}).status_code == 200
            client.post("/predict", content=b"no picture")

    traffic()
    until(lambda: prometheus.query('digitserve_request_seconds_count{route="/predict"}'))
    traffic()  # the growth of a series shows from its second value on
    until(lambda: prometheus.value("sum(digitserve_predictions_total)") == 6)
    until(lambda: prometheus.value("sum(increase(digitserve_predictions_total[5m]))"))
    return prometheus


def test_prometheus_scrapes_the_service(watched: Prometheus) -> None:
    assert until(lambda: watched.value("up")) == 1
    [target] = watched.api("targets")["activeTargets"]
    assert target["labels"]["job"] == "digitserve"
    assert watched.value('digitserve_requests_total{route="/predict", status="415"}') == 2
    assert watched.value('digitserve_rejected_images_total{code="unsupported_format"}') == 4


def test_prometheus_evaluates_every_rule_and_a_healthy_service_raises_no_alert(watched: Prometheus) -> None:
    def evaluated() -> list[dict[str, Any]] | None:
        rules = [rule for group in watched.api("rules")["groups"] for rule in group["rules"]]
        return None if any(rule["health"] == "unknown" for rule in rules) else rules

    rules = until(evaluated)
    assert len(rules) == len(RULES)
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}
    assert {
        rule["name"] for rule in rules if rule["type"] == "alerting" and rule["state"] != "inactive"
    } == set()


def test_every_recorded_series_has_a_value(watched: Prometheus) -> None:
    for name in RECORDED:
        until(lambda name=name: watched.query(name))
    assert watched.value("job:digitserve_predict_errors:ratio_rate5m") == 0
    assert watched.value("job_model:digitserve_queue_seconds:p95_5m") < 1
    assert until(lambda: watched.value("job_model:digitserve_images:rate5m > 0"))
    p99_s = until(lambda: watched.value('job_route:digitserve_request_seconds:p99_5m{route="/predict"} > 0'))
    assert p99_s < 10


def substituted(expression: str) -> str:
    """A query of the dashboard as Grafana sends it."""
    return expression.replace("$__rate_interval", "1m").replace("$model", "mnist-cnn|other")


QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
# What stays empty where nothing goes wrong.
EMPTY_WHEN_WELL = {query for query in QUERIES if query.endswith("> 0")}


def test_every_panel_shows_something_of_a_running_service(watched: Prometheus) -> None:
    for query in QUERIES:
        if query in EMPTY_WHEN_WELL:
            assert watched.query(substituted(query)) == []
        else:
            assert until(lambda query=query: watched.query(substituted(query))), query
    for annotation in DASHBOARD["annotations"]["list"]:
        watched.query(substituted(annotation["expr"]))


def test_the_dashboards_variable_offers_the_models(watched: Prometheus) -> None:
    [variable] = [one for one in DASHBOARD["templating"]["list"] if one["name"] == "model"]
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
    assert watched.api(f"label/{label}/values", **{"match[]": metric}) == ["mnist-cnn"]


def test_promtool_finds_nothing_to_object_to_in_the_series(
    require_program: Callable[[str], Path], watched: Prometheus, server: Server
) -> None:
    promtool(require_program, "check", "metrics", stdin=httpx2.get(f"{server.url}/metrics").text)


def test_no_rule_and_no_panel_asks_for_a_series_that_there_is_not(watched: Prometheus) -> None:
    served = set(watched.api("label/__name__/values"))
    expressions = [*QUERIES, *(rule["expr"] for rule in RULES)]
    asked = {name for text in expressions for name in re.findall(r"[\w:]*digitserve_[\w:]*", text)}
    assert asked
    assert asked <= served | RECORDED


def test_an_absent_service_is_noticed(
    start_server: StartServer, tiny_models: Path, watched: Prometheus, server: Server
) -> None:
    """The last of those that ask `watched`: it stops the server."""
    server.stop()
    until(lambda: watched.value("up") == 0)

    def pending() -> list[str]:
        return [alert["labels"]["alertname"] for alert in watched.api("alerts")["alerts"]]

    until(lambda: "DigitserveAbsent" in pending())


def test_the_dashboards_panels_are_laid_out_without_overlap_and_say_what_they_show() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"].get("unit") or panel["type"] == "table", panel["title"]


def test_the_dashboard_reads_the_data_source_that_is_provisioned() -> None:
    [source] = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in COMPOSE["services"]
    [variable] = [one for one in DASHBOARD["templating"]["list"] if one["type"] == "datasource"]
    assert variable["current"]["value"] in (source["uid"], source["name"])
    used = {json.dumps(panel["datasource"]) for panel in PANELS}
    used |= {json.dumps(target["datasource"]) for panel in PANELS for target in panel["targets"]}
    assert used == {json.dumps({"type": "prometheus", "uid": "${datasource}"})}


OBSERVERS = {n: s for n, s in COMPOSE["services"].items() if "observability" in s.get("profiles", [])}


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_an_observer_is_pinned_locked_down_and_of_this_machine_alone(name: str) -> None:
    service = OBSERVERS[name]
    assert service["profiles"] == ["observability"]
    assert re.fullmatch(r"docker\.io/[\w/]+:v?\d+\.\d+\.\d+", service["image"])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    [port] = service["ports"]
    assert re.fullmatch(r"\$\{\w+_PORT:-127\.0\.0\.1:\d+\}:\d+", port)


def test_what_the_observers_mount_is_there_and_cannot_be_changed() -> None:
    mounts = [mount for service in OBSERVERS.values() for mount in service["volumes"]]
    assert OBSERVERS.keys() == {"prometheus", "grafana"}
    for mount in mounts:
        if mount["type"] == "bind":
            assert (ROOT / mount["source"]).is_dir()
            assert mount["read_only"] is True
        else:
            assert mount["source"] in COMPOSE["volumes"]
    targets = {mount["target"]: mount["source"] for mount in mounts}
    assert "--config.file=/etc/prometheus/prometheus.yml" in OBSERVERS["prometheus"]["command"]
    assert (ROOT / targets["/etc/prometheus"] / "prometheus.yml").is_file()
    provider = yaml.safe_load((FOLDER / "grafana/provisioning/dashboards/digitserve.yml").read_text())
    [dashboards] = [one["options"]["path"] for one in provider["providers"]]
    assert (ROOT / targets[dashboards] / "digitserve.json").is_file()


def test_prometheus_looks_for_the_services_of_the_compose_file_on_their_port() -> None:
    [job] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    [discovery] = job["dns_sd_configs"]
    for name in discovery["names"]:
        [port] = COMPOSE["services"][name]["ports"]
        assert port.endswith(f":{discovery['port']}")
