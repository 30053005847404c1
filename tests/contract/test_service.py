"""The service, in a process of its own: what it answers, and that it answers as the Detector does."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from bad_files import bad_files, dicom_bytes
from bundle_edits import two_heads
from image_files import noise, saved
from PIL import Image
from service_peer import Answer, Service, running

from madclip_runtime import Detector
from madclip_runtime.overlay import draw_overlay
from madclip_runtime.schema import encode

CHANGING = ("times_ms", "file")


@pytest.fixture(scope="module")
def bundle(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny.write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.madclip")
    return folder


@pytest.fixture(scope="module")
def service(bundle: Path) -> Iterator[Service]:
    with running(bundle) as started:
        yield started


@pytest.fixture(scope="module")
def detector(bundle: Path) -> Detector:
    return Detector.load(bundle)


def same(answer: dict[str, Any], detector: Detector, data: bytes) -> bool:
    return without_times(answer) == without_times(json.loads(json.dumps(detector(data, name="request").to_json())))


def without_times(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in CHANGING}


def refused(answer: Answer, status: int, name: str) -> None:
    assert (answer.status, answer.json["refused"]["name"]) == (status, name), answer.body
    assert answer.json["error"] and set(answer.json["refused"]) == {"name", "why", "do"}


@pytest.mark.parametrize("kind", ["picture", "dicom"])
def test_a_file_gets_the_result_that_the_detector_gives(service: Service, detector: Detector, kind: str) -> None:
    data = saved(noise(), "PNG") if kind == "picture" else dicom_bytes(WindowCenter=40, WindowWidth=80)
    answer = service.ask("POST", "/v1/detect", data)
    assert answer.status == 200 and answer.headers["content-type"] == "application/json"
    assert same(answer.json, detector, data)
    schema = json.loads((resources.files("madclip_runtime") / "schemas/result-2.json").read_text())
    result = {**schema["$defs"]["result"], "$defs": schema["$defs"]}
    written = {"overlay": None, "map_file": None, "mask_file": None}  # madclip-run's own keys
    jsonschema.Draft202012Validator(result).validate({**answer.json, **written})


def test_accept_chooses_the_overlay(service: Service, detector: Detector) -> None:
    data = saved(noise(), "PNG")
    answer = service.ask("POST", "/v1/detect", data, Accept="text/html;q=0.2, image/png")
    assert answer.headers["content-type"] == "image/png"
    drawn, expected = np.asarray(Image.open(io.BytesIO(answer.body))), draw_overlay(detector(data, name="request"))
    np.testing.assert_array_equal(drawn, expected)
    refused(service.ask("POST", "/v1/detect", data, Accept="text/html"), 406, "not-acceptable")


def test_hostile_files_are_refused_or_answered_and_it_lives_on(service: Service, detector: Detector) -> None:
    for name, data in bad_files().items():
        answer = service.ask("POST", "/v1/detect", data)
        assert answer.status in (200, 422), (name, answer.body)
        if answer.status == 422:
            refused(answer, 422, "InputRefused")
            assert name not in answer.json["error"]
    data = saved(noise(), "PNG")
    assert same(service.ask("POST", "/v1/detect", data).json, detector, data)


def test_what_is_no_request_of_this_service_is_refused_by_name(service: Service) -> None:
    data = saved(noise(), "PNG")
    refused(service.ask("GET", "/etc/passwd"), 404, "not-found")
    refused(service.ask("GET", "/viewer.js/../../x"), 404, "not-found")
    answer = service.ask("GET", "/v1/detect")
    refused(answer, 405, "wrong-method")
    assert answer.headers["allow"] == "POST"
    refused(service.ask("POST", "/v1/detect?head=none", data), 400, "malformed")
    refused(service.ask("POST", "/v1/detect", data, Content_Type="multipart/form-data; boundary=x"), 415, "wrong-type")
    refused(service.ask("POST", "/v1/detect", data, Content_Encoding="gzip"), 415, "wrong-type")
    refused(service.ask("POST", "/v1/detect", b""), 422, "InputRefused")
    refused(service.ask("GET", "/v1/model?" + "&".join("a=1" for _ in range(50))), 400, "malformed")


def test_other_pages_and_other_names_get_nothing(service: Service) -> None:
    data = saved(noise(), "PNG")
    refused(service.ask("POST", "/v1/detect", data, Origin="https://example.org"), 403, "wrong-host")
    refused(service.ask("POST", "/v1/detect", data, Origin="null"), 403, "wrong-host")
    refused(service.ask("GET", "/v1/model", Host="rebound.example.org"), 403, "wrong-host")
    refused(service.ask("GET", "/", Sec_Fetch_Site="cross-site"), 403, "wrong-host")
    own = f"http://127.0.0.1:{service.port}"
    answer = service.ask("POST", "/v1/detect", data, Origin=own)
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert service.ask("OPTIONS", "/v1/detect", Origin=own).status == 405


def test_every_answer_forbids_a_browser_what_it_should(service: Service) -> None:
    for path in ("/", "/viewer.js", "/docs", "/v1/model", "/none"):
        headers = service.ask("GET", path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")
        assert "server" not in headers


def test_health_and_card(service: Service, detector: Detector) -> None:
    for path in ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"):
        assert service.ask("GET", path).status == 200
    head = service.ask("HEAD", "/health/live")
    assert (head.status, head.body) == (200, b"")
    card, manifest = service.ask("GET", "/v1/model").json, encode(detector.bundle.manifest)
    assert card["digest"] == detector.bundle.digest and card["engine"]["name"] == "onnxruntime-cpu"
    assert {key: card[key] for key in manifest if key != "files"} == {k: v for k, v in manifest.items() if k != "files"}


def test_metrics_count_what_was_answered_and_refused(service: Service) -> None:
    lines = (
        'madclip_decisions_total{head="brightness",decision="abnormal"}',
        'madclip_refusals_total{name="InputRefused"}',
        'madclip_stage_seconds_count{stage="compute"}',
        'madclip_requests_total{route="/v1/detect",status="200"}',
    )
    before = [service.metric(line) for line in lines]
    service.ask("POST", "/v1/detect", saved(noise(), "PNG"))
    service.ask("POST", "/v1/detect", b"no image")
    assert [service.metric(line) for line in lines] == [value + 1 for value in before]
    text = service.ask("GET", "/metrics").body.decode()
    assert "madclip_queue_depth 0" in text and "madclip_queue_limit 32" in text
    sample = re.compile(r'[a-z_]+(\{([a-z]+="[^"\\\n]*",?)+\})? [0-9.e+-]+|# (HELP|TYPE) [a-z_]+ .+')
    assert [line for line in text.splitlines() if not sample.fullmatch(line)] == []


def test_the_document_names_every_route_and_nothing_else(service: Service, bundle: Path) -> None:
    from madclip_runtime.serve.app import App
    from madclip_runtime.serve.models import Model
    from madclip_runtime.serve.settings import Limits, Settings

    detector = Detector.load(bundle)
    app = App(Model(detector, {detector.head: detector}), Settings("127.0.0.1", 0, Limits()), 1, lambda _: None)
    app.desk.end()
    document = service.ask("GET", "/openapi.json").json
    told = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert told == {(route.method, route.path) for route in app.routes}
    free = {path for path, methods in document["paths"].items() for m in methods.values() if m["security"] == []}
    assert free == {route.path for route in app.routes if route.free}
    page = service.ask("GET", "/docs").body.decode()
    assert all(path in page for path in document["paths"]) and "<script" not in page


def test_many_at_once_get_what_one_alone_gets(bundle: Path, detector: Detector) -> None:
    images = [saved(noise(seed=seed), "PNG") for seed in range(24)]
    answers: dict[int, Answer] = {}

    def ask(place: int) -> None:
        answers[place] = service.ask("POST", "/v1/detect", images[place])

    with running(bundle, "--batch", "8") as service:
        threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(images))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == len(images)
    assert all(same(answers[place].json, detector, data) for place, data in enumerate(images))


def test_past_the_queue_there_is_503_and_later_there_is_room(bundle: Path) -> None:
    large = saved(np.random.default_rng(0).integers(0, 256, (3000, 3000, 3), dtype=np.uint8), "PNG", compress_level=1)
    answers: list[Answer] = []
    with running(bundle, "--queue", "1") as service:
        threads = [
            threading.Thread(target=lambda: answers.append(service.ask("POST", "/v1/detect", large))) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        full = [answer for answer in answers if answer.status == 503]
        assert full and {answer.status for answer in answers} == {200, 503}
        for answer in full:
            refused(answer, 503, "queue-full")
            assert answer.headers["retry-after"] == "1"
        assert service.ask("POST", "/v1/detect", large).status == 200
        assert service.metric('madclip_refusals_total{name="queue-full"}') == len(full)


def test_several_heads_are_asked_for_by_name(tiny_bundle: Path) -> None:
    two_heads(tiny_bundle)
    data = saved(noise(), "PNG")
    with running(tiny_bundle, "--head", "all") as service:
        refused(service.ask("POST", "/v1/detect", data), 400, "malformed")
        chest, brain = (service.ask("POST", f"/v1/detect?head={head}", data).json for head in ("chest", "brain"))
        assert (chest["head"], brain["head"]) == ("chest", "brain")
        assert chest["regions"] and brain["regions"] is None
        assert service.ask("POST", "/v1/view?head=brain", data).json["pictures"]["outline"] is None


def test_an_open_inference_client_from_elsewhere_gets_the_right_answer(service: Service, tiny: Any) -> None:
    triton = pytest.importorskip(
        "tritonclient.http", reason="no tritonclient: the protocol was NOT tried with a client that isn't ours"
    )
    from tritonclient.utils import InferenceServerException

    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    scores, maps = tiny.brightness(pixels)
    client = triton.InferenceServerClient(f"127.0.0.1:{service.port}")
    try:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("tiny-brightness")
        told = client.get_model_metadata("tiny-brightness")
        assert [tensor["name"] for tensor in told["outputs"]] == ["score", "map"]
        for binary in (True, False):
            tensor = triton.InferInput("image", list(pixels.shape), "UINT8")
            tensor.set_data_from_numpy(pixels, binary_data=binary)
            outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("map", "score")]
            for wanted in (outputs, None):
                answer = client.infer("tiny-brightness", [tensor], outputs=wanted, request_id="7")
                np.testing.assert_allclose(answer.as_numpy("score"), scores, atol=1e-6)
                np.testing.assert_allclose(answer.as_numpy("map"), maps, atol=1e-6)
                assert answer.get_response()["id"] == "7"
        with pytest.raises(InferenceServerException, match="none of this service"):
            client.infer("another", [tensor])
        with pytest.raises(InferenceServerException, match="name one that is none"):
            client.infer("tiny-brightness", [tensor], outputs=[triton.InferRequestedOutput("x")])
    finally:
        client.close()
