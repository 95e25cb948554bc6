"""What a server counts, in the text format of Prometheus."""

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """The counters of one server; outcomes are `ok`, `gone`, or the code of an error."""

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "motus_requests", "Queries by how they ended", ["outcome"], registry=registry
        )
        self.refused = Counter(
            "motus_refused", "Connections refused", ["reason"], registry=registry
        )
        self.met = Counter(
            "motus_met",
            "Action numbers clipped or slowed, state numbers outside, pictures frozen or misfit",
            ["kind"],
            registry=registry,
        )
        self.clients = Gauge("motus_clients", "Connections now", registry=registry)
        self.waiting = Gauge(
            "motus_waiting", "Queries that wait or are worked on", registry=registry
        )
        self.ready = Gauge("motus_ready", "1 when warm", registry=registry)
        self.act = Histogram(
            "motus_act_seconds", "Time of the policy", buckets=SECONDS, registry=registry
        )
        self.answer = Histogram(
            "motus_answer_seconds", "From message to answer", buckets=SECONDS, registry=registry
        )

    def text(self) -> str:
        """All of them."""
        return generate_latest(self._registry).decode()

    def outcomes(self) -> dict[str, int]:
        """Queries by how they ended."""
        return {
            sample.labels["outcome"]: int(sample.value)
            for metric in self.requests.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }
