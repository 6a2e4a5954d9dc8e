"""Looks at a daemon from outside, as a scraper or a load balancer does."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.ports import free_port

_ANSWER_SECONDS = 10


def fetch(url: str, method: str = "GET") -> tuple[int, str]:
    """Status and body of an answer, whatever the status."""
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@dataclass(frozen=True)
class Watched:
    """The monitor of a daemon that listens at `address`."""

    address: str

    @classmethod
    def somewhere(cls) -> Watched:
        return cls(f"127.0.0.1:{free_port()}")

    @property
    def settings(self) -> dict[str, Any]:
        """The section monitor of its configuration."""
        return {"listen": self.address}

    def alive(self) -> bool:
        return fetch(f"http://{self.address}/livez")[0] == 200

    def readiness(self) -> tuple[int, str, list[str]]:
        """The code of the answer, the status in it, and the codes of the reasons."""
        code, body = fetch(f"http://{self.address}/readyz")
        found = json.loads(body)
        return code, found["status"], [reason["code"] for reason in found["reasons"]]

    def metrics(self) -> dict[str | tuple[str, ...], float]:
        """All samples, by name, or by name and the values of the labels, in the order of these, if there are any."""
        code, body = fetch(f"http://{self.address}/metrics")
        assert code == 200
        found: dict[str | tuple[str, ...], float] = {}
        for family in text_string_to_metric_families(body):
            for sample in family.samples:
                name = sample.name.removeprefix("datastore_dumper_")
                found[(name, *(value for _, value in sorted(sample.labels.items()))) if sample.labels else name] = (
                    sample.value
                )
        return found
