"""Thin mode for the orchestrator: the tables and the loop, no web parts, so it starts fast."""

from __future__ import annotations

from project.settings.base import *

INSTALLED_APPS = ["dynflow_app"]
MIDDLEWARE: list[str] = []
TEMPLATES: list[dict[str, object]] = []

ROOT_URLCONF = None
WSGI_APPLICATION = None
