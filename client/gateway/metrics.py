"""What Prometheus is told."""

from __future__ import annotations

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.responses import Response

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    def __init__(self) -> None:

        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Counter(
            "gateway_requests", "Requests answered.", ["route", "method", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "gateway_request_seconds", "Seconds of whole requests.", ["route"], buckets=SECONDS, registry=self._registry
        )
        self.triton_seconds = Histogram(
            "gateway_triton_seconds", "Seconds at Triton.", ["model"], buckets=SECONDS, registry=self._registry
        )
        self.admitted = Gauge("gateway_admitted", "Pictures that are asked about or wait.", registry=self._registry)
        self.image_bytes = Counter("gateway_image_bytes", "Bytes of encoded images received.", registry=self._registry)

    def response(self) -> Response:

        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)
