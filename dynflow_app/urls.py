"""Mounts the HTTP API: ``path("dynflow/", include("dynflow_app.urls"))``."""

from __future__ import annotations

urlpatterns: list[object] = []
