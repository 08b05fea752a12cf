"""Metrics in Prometheus's text, from plain numbers. The only place that knows its client library."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

from holdfast.errors import ConfigurationError
from holdfast.runtime.counting import METRICS, Metric, Numbers, Series


class Exposition:
    """What `/metrics` answers, made anew from `numbers` each time. Raises ConfigurationError where the library is missing."""

    def __init__(self, numbers: Callable[[], Numbers]) -> None:
        self._core: Any = _imported("prometheus_client.core")
        self._choose: Any = _imported("prometheus_client.exposition").choose_encoder
        self._registry: Any = _imported("prometheus_client.registry").CollectorRegistry(auto_describe=False)
        self._numbers = numbers
        self._registry.register(self)

    def answer(self, accept: str) -> tuple[bytes, str]:
        """The text, and its type, in the format that a reader who accepts these prefers."""
        encode, kind = self._choose(accept)
        return encode(self._registry), kind

    def collect(self) -> Iterator[Any]:
        """Called by the library at each scrape."""
        numbers = self._numbers()
        for name, metric in METRICS.items():
            if name in numbers:
                yield self._family(name, metric, numbers[name])

    def _family(self, name: str, metric: Metric, series: Series) -> Any:
        makers = {
            "counter": self._core.CounterMetricFamily,
            "gauge": self._core.GaugeMetricFamily,
            "histogram": self._core.HistogramMetricFamily,
        }
        family = makers[metric.kind](name, metric.words, labels=metric.labels)
        for labels, values in sorted(series.items()):
            if metric.kind == "histogram":
                family.add_metric(labels, list(_cumulated(metric, values)), sum_value=values[-1])
            else:
                family.add_metric(labels, values[0])
        return family


def _cumulated(metric: Metric, values: list[float]) -> Iterator[tuple[str, float]]:
    """The buckets as the format has them: each holds all below it, too."""
    total = 0.0
    for bound, number in zip((*map(str, metric.buckets), "+Inf"), values, strict=False):
        total += number
        yield bound, total


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigurationError("metrics need prometheus-client: pip install 'holdfast[metrics]'") from error
