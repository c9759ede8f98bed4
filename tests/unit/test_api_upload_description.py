"""What the API says of uploads in its own description."""

from __future__ import annotations

from typing import Any

import pytest

from wireloom.api.app import openapi_document

#: FastAPI silences it while it builds a body's validator; ours are built later, at their first use.
pytestmark = pytest.mark.filterwarnings("ignore:The 'alias' attribute")


def test_what_the_server_speaks_is_described() -> None:
    paths = openapi_document()["paths"]
    begin, go_on = paths["/api/v1/uploads"], paths["/api/v1/uploads/{upload_id}"]

    def asked(operation: dict[str, Any]) -> dict[str, bool]:
        return {item["name"]: item["required"] for item in operation["parameters"] if item["in"] == "header"}

    assert asked(begin["post"]) == {
        "Tus-Resumable": True, "Upload-Length": False, "Upload-Defer-Length": False, "Upload-Metadata": False,
    }  # fmt: skip
    assert {"Location", "Upload-Expires", "Tus-Resumable"} == set(begin["post"]["responses"]["201"]["headers"])
    assert "content" not in begin["post"]["responses"]["201"]
    assert "Tus-Max-Size" in begin["options"]["responses"]["204"]["headers"]
    assert asked(go_on["patch"]) == {
        "Tus-Resumable": True, "Upload-Offset": True, "Upload-Length": False, "Upload-Checksum": False,
    }  # fmt: skip
    assert list(go_on["patch"]["requestBody"]["content"]) == ["application/offset+octet-stream"]
    assert "Upload-Offset" in go_on["patch"]["responses"]["204"]["headers"]
    assert "Upload-Offset" in go_on["head"]["responses"]["200"]["headers"]
    assert asked(go_on["delete"]) == {"Tus-Resumable": True}
    assert [item["name"] for item in go_on["patch"]["parameters"] if item["in"] == "path"] == ["upload_id"]
