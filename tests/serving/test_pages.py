"""What browsers and monitoring get: pages without anything from elsewhere, the document, the metrics."""

from __future__ import annotations

import json
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel

from caloray.serving.documents import ErrorBody, ModelFacts, ShowerReply
from caloray.serving.metrics import ServiceMetrics, render
from caloray.serving.page_files import page_files
from caloray.serving.request import ShowerRequest


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages(client, path):
    reply = client.get(path)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert reply.headers["x-content-type-options"] == "nosniff"
    used = re.findall(r'(?:src|href)="(page/[^"]+)"', reply.body.decode())
    assert used
    for name in used:
        part = client.get(f"/{name}")
        assert part.status == 200
        assert client.get(f"/{name}", if_none_match=part.headers["etag"]).status == 304


def test_pages_fetch_nothing_from_elsewhere_and_run_nothing_inline():
    for name, file in page_files().items():
        text = file.content.decode()
        outside = set(re.findall(r"https?://[^\s\"'`)]*", text)) - {"http://www.w3.org/2000/svg"}
        assert not outside, f"{name}: {outside}"
        assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=\"|innerHTML|eval\(", text), name


def test_every_imported_script_is_there():
    for name, file in page_files().items():
        for used in re.findall(r'from "\./([\w.]+)"', file.content.decode()):
            assert used in page_files(), f"{name} imports {used}"


def test_every_control_has_a_name():
    text = page_files()["shower.html"].content.decode()
    for control in re.findall(r"<(?:input|select)[^>]*>", text):
        name = re.search(r'id="([\w-]+)"', control).group(1)
        assert f'for="{name}"' in text or "aria-label=" in control, control


def test_models(client, bundle):
    (model,) = client.get("/v1/models").json()
    low, high = bundle.energy_range
    assert model["name"] == "toy"
    assert model["digest"] == bundle.digest
    assert model["energy_range"] == [low, high]
    assert model["geometry"]["n_voxels"] == bundle.geometry.n_voxels
    assert model["geometry"]["layer_shapes"] == [[4, 3]] * 3
    assert model["block_size"] == bundle.block_size
    ModelFacts.model_validate(model)


def test_replies_are_as_documented(client):
    reply = client.post({"energies": [2000.0]}, accept="application/json")
    ShowerReply.model_validate(reply.json())
    ErrorBody.model_validate(client.post({}).json())


def references(value):
    if isinstance(value, dict):
        found = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return found + [name for item in value.values() for name in references(item)]
    return [name for item in value for name in references(item)] if isinstance(value, list) else []


def test_document(client):
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for name in references(document):
        assert name.rpartition("/")[2] in schemas, name
    assert "/v1/showers" in document["paths"]
    post = document["paths"]["/v1/showers"]["post"]
    assert post["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("ShowerRequest")
    assert {"200", "401", "404", "413", "415", "422", "503"} <= set(post["responses"])
    assert "application/vnd.apache.arrow.stream" in post["responses"]["200"]["content"]
    assert schemas["ShowerRequest"]["additionalProperties"] is False
    assert set(schemas["ShowerRequest"]["properties"]) == set(ShowerRequest.model_fields)
    assert issubclass(ShowerRequest, BaseModel)


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics(bundle, local):
    client = local({"toy": bundle}).client
    client.post({"energies": [2000.0] * 3})
    client.post({"energies": []})
    client.get("/nowhere/at/all")
    found = samples(client.get("/metrics").body.decode())
    assert found["caloray_requests_total", "/v1/showers", "200", "POST"] == 1
    assert found["caloray_requests_total", "/v1/showers", "422", "POST"] == 1
    assert found["caloray_requests_total", "404", "GET", "other"] == 1
    assert found["caloray_showers_total", "toy"] == 3
    assert found["caloray_request_seconds_count", "/v1/showers"] == 2
    assert found["caloray_batch_rows_sum", "toy"] == 3
    assert found["caloray_pending_requests",] == 0


def test_metrics_of_several_processes_add_up():
    counts = [ServiceMetrics(), ServiceMetrics()]
    for i, one in enumerate(counts):
        one.showers.labels("a").inc(10 + i)
        one.latency.labels("/").observe(0.1 * i)
        one.pending_requests.set(2)
    counts[1].showers.labels("b").inc(5)
    found = samples(render(one.snapshot() for one in counts).decode())
    assert found["caloray_showers_total", "a"] == 21
    assert found["caloray_showers_total", "b"] == 5
    assert found["caloray_request_seconds_count", "/"] == 2
    assert found["caloray_pending_requests",] == 4
    assert not [key for key in found if key[0].endswith("_created")]


def test_request_ids_differ(client):
    ids = {client.get("/healthz").headers["x-caloray-request"] for _ in range(5)}
    assert len(ids) == 5


def test_a_fault_of_our_own_is_a_short_500(bundle, local):
    service = local({"toy": bundle})

    async def broken(model, order, owner):
        raise RuntimeError("secret detail")

    service.service._workshop = broken
    with pytest.raises(RuntimeError):
        service.client.post({"energies": [2000.0]})
    assert service.service.under_way == 0
    assert json.loads(b"{}") == {}
