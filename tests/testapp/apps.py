"""The app's place in Django."""

from __future__ import annotations

from django.apps import AppConfig


class TestappConfig(AppConfig):
    """Actions for tests."""

    name = "tests.testapp"
    label = "testapp"
