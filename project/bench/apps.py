"""The benchmark as a Django app, so that workers find its actions."""

from __future__ import annotations

from django.apps import AppConfig


class BenchConfig(AppConfig):
    """Configuration of ``project.bench``; no models."""

    name = "project.bench"
    label = "bench"
