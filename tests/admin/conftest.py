"""Clients of the console."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.factories import user


@pytest.fixture
def viewer(db: None) -> Client:
    """Somebody of the staff who may look, and nothing else."""
    client = Client()
    client.force_login(user("viewer", "view_executionplan", "view_world"))
    return client
