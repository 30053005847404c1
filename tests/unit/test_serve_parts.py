"""The service's small parts: routes, Accept, the desk and its batches, the intake, metrics."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from madclip_runtime.errors import EngineRefused, RequestRefused
from madclip_runtime.serve.desk import Desk, Work
from madclip_runtime.serve.detect import wanted
from madclip_runtime.serve.exchange import Request, Response, Route, find
from madclip_runtime.serve.intake import Disconnected, Intake
from madclip_runtime.serve.metrics import Metrics
from madclip_runtime.serve.settings import Limits


async def nothing(request: Request) -> Response:
    return Response(b"")


ROUTES = (Route("GET", "/a/{name}/b", nothing), Route("POST", "/a/{name}/b", nothing), Route("GET", "/a", nothing))


def test_routes_are_found_by_method_and_path() -> None:
    assert find(ROUTES, "POST", "/a/x y/b") == (ROUTES[1], {"name": "x y"})
    assert find(ROUTES, "HEAD", "/a")[0] is ROUTES[2]
    for method, path, kind in (
        ("GET", "/a//b", "not-found"),
        ("GET", "/a/x/b/", "not-found"),
        ("GET", "", "not-found"),
        ("PUT", "/a", "wrong-method"),
    ):
        with pytest.raises(RequestRefused) as refused:
            find(ROUTES, method, path)
        assert refused.value.kind == kind


@pytest.mark.parametrize(
    ("accept", "choice"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("image/png", "image/png"),
        ("image/*, */*;q=0.1", "image/png"),
        ("image/png;q=0.5, application/json;q=0.4", "image/png"),
        ("application/json;q=0, image/png;q=0.1", "image/png"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
    ],
)
def test_accept_chooses(accept: str, choice: str) -> None:
    assert wanted(accept, ("application/json", "image/png")) == choice


@pytest.mark.parametrize("accept", ["text/html", "image/png;q=0", "image/png;q=x", ",", "image"])
def test_accept_that_takes_neither_is_refused(accept: str) -> None:
    with pytest.raises(RequestRefused):
        wanted(accept, ("application/json", "image/png"))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(bundle='a "quoted"\\name\n')


def test_metrics_escape_their_labels(metrics: Metrics) -> None:
    assert 'madclip_info{bundle="a \\"quoted\\"\\\\name\\n"} 1\n' in metrics.text(0, 1)


def test_a_histogram_counts_up_to_each_bound(metrics: Metrics) -> None:
    for seconds in (0.001, 0.002, 99.0):
        metrics.time("draw", seconds)
    lines = [line for line in metrics.text(0, 1).splitlines() if 'stage="draw"' in line]
    assert lines[0].endswith('le="0.001"} 1') and lines[1].endswith('le="0.0025"} 2')
    assert lines[-3].endswith('le="+Inf"} 3') and lines[-1].endswith(" 3")


class Held:
    """Work that waits for `go`, and remembers what came together."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.batches: list[list[int]] = []

    def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
        assert self.go.wait(timeout=30)
        self.batches.append(list(payloads))
        if -1 in payloads:
            raise EngineRefused("engine", "no")
        return [10 * value for value in payloads]


def run_desk(metrics: Metrics, batch: int, scenario: Any, **limits: Any) -> Any:
    async def whole() -> Any:
        desk = Desk(Limits(**limits), batch, metrics)
        try:
            return await scenario(desk)
        finally:
            await asyncio.get_running_loop().run_in_executor(None, desk.end)

    return asyncio.run(whole())


def test_what_waits_goes_together_up_to_a_batch_and_only_with_its_kind(metrics: Metrics) -> None:
    held = Held()

    async def scenario(desk: Desk) -> list[Any]:
        first = asyncio.ensure_future(desk.compute(Work("a", held.run, 0)))
        await asyncio.sleep(0.2)  # it is at the engine, and waits for `go`
        rest = [
            Work("a", held.run, 1),
            Work("b", held.run, 2),
            Work("a", held.run, 3, images=2),
            Work("a", held.run, 4),
        ]
        waiting = [asyncio.ensure_future(desk.compute(work)) for work in rest]
        await asyncio.sleep(0)
        held.go.set()
        return [await answer for answer in (first, *waiting)]

    assert run_desk(metrics, 3, scenario) == [0, 10, 20, 30, 40]
    assert held.batches == [[0], [1, 3], [2], [4]]


def test_a_fault_is_told_to_those_it_concerns_and_the_next_is_served(metrics: Metrics) -> None:
    held = Held()
    held.go.set()

    async def scenario(desk: Desk) -> Any:
        with pytest.raises(EngineRefused):
            await desk.compute(Work("a", held.run, -1))
        return await desk.compute(Work("a", held.run, 1))

    assert run_desk(metrics, 1, scenario) == 10


def test_a_request_that_waits_too_long_is_refused_and_not_computed(metrics: Metrics) -> None:
    held = Held()

    async def scenario(desk: Desk) -> Any:
        first = asyncio.ensure_future(desk.compute(Work("a", held.run, 1)))
        await asyncio.sleep(0.2)
        with pytest.raises(RequestRefused) as refused:
            await desk.in_time(lambda: desk.compute(Work("a", held.run, 2)))
        assert refused.value.kind == "too-late"
        held.go.set()
        return await first

    assert run_desk(metrics, 1, scenario, answer_s=0.1) == 10
    assert held.batches == [[1]]


def test_places_are_bounded_and_given_back(metrics: Metrics) -> None:
    async def scenario(desk: Desk) -> None:
        with desk.place(), desk.place():
            with pytest.raises(RequestRefused) as refused, desk.place():
                pass
            assert refused.value.kind == "queue-full" and desk.depth == 2
        assert desk.depth == 0

    run_desk(metrics, 1, scenario, waiting=2)


def test_decoding_waits_while_too_much_is_decoded(metrics: Metrics) -> None:
    async def scenario(desk: Desk) -> list[str]:
        order: list[str] = []
        large = Limits().held_bytes + 1

        async def second() -> None:
            async with desk.decoded(lambda: order.append("second"), lambda _: 1):
                pass

        async with desk.decoded(lambda: order.append("first"), lambda _: large):
            task = asyncio.ensure_future(second())
            await asyncio.sleep(0.1)
            order.append("first ends")
        await task
        return order

    assert run_desk(metrics, 1, scenario) == ["first", "first ends", "second"]


def request_of(messages: list[dict[str, Any]], **headers: str) -> Request:
    left = list(messages)

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.sleep(60)
        return left.pop(0)

    return Request("POST", "/", {}, {k.replace("_", "-"): v for k, v in headers.items()}, receive)


def part(data: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


def read(intake: Intake, request: Request) -> bytes:
    async def whole() -> bytes:
        async with intake.body(request) as data:
            return data

    return asyncio.run(whole())


def test_a_body_is_read_whole_and_its_memory_given_back() -> None:
    intake = Intake(Limits(body_bytes=10))
    assert read(intake, request_of([part(b"ab"), part(b"cd", False)])) == b"abcd"
    assert intake.held_bytes == 0


@pytest.mark.parametrize(
    ("messages", "headers", "kind"),
    [
        ([part(b"x" * 6), part(b"x" * 6), part(b"", False)], {}, "too-large"),
        ([part(b"", False)], {"content_length": "11"}, "too-large"),
        ([part(b"", False)], {"content_length": "9" * 400}, "too-large"),
        ([part(b"x")], {}, "too-slow"),
        ([part(b"x", False)], {"content_encoding": "br"}, "wrong-type"),
    ],
)
def test_bodies_beyond_a_limit_are_refused_by_name(
    messages: list[dict[str, Any]], headers: dict[str, str], kind: str
) -> None:
    intake = Intake(Limits(body_bytes=10, receive_s=0.1))
    with pytest.raises(RequestRefused) as refused:
        read(intake, request_of(messages, **headers))
    assert (refused.value.kind, intake.held_bytes) == (kind, 0)


def test_a_client_that_left_is_no_refusal() -> None:
    with pytest.raises(Disconnected):
        read(Intake(Limits()), request_of([part(b"x"), {"type": "http.disconnect"}]))


def test_all_bodies_together_are_bounded() -> None:
    intake = Intake(Limits(body_bytes=10))
    intake.held_bytes = Limits().held_bytes
    with pytest.raises(RequestRefused) as refused:
        read(intake, request_of([part(b"x", False)]))
    assert refused.value.kind == "queue-full"
