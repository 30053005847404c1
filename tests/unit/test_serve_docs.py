"""docs/service.md says what the service does."""

from __future__ import annotations

from pathlib import Path

import pytest

from madclip_runtime.options import make_parser
from madclip_runtime.serve.describe import describe
from madclip_runtime.serve.exchange import STATUS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "service.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("option", "unit"), [("max_body", " MB"), ("queue", ""), ("receive_timeout", " s"), ("answer_timeout", " s")]
)
def test_limits_are_those_of_the_command(option: str, unit: str) -> None:
    default = make_parser().parse_args([]).__dict__[option]
    assert f"| `--{option.replace('_', '-')}` | {default}{unit} |" in PAGE


def test_each_status_and_each_path_is_there() -> None:
    for status in {*STATUS.values(), 422, 500}:
        assert str(status) in PAGE, status
    for path in describe()["paths"]:
        if not path.startswith(("/v2", "/viewer")) and path != "/":
            assert f"{path}`" in PAGE, path
