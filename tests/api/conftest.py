"""Clients of the API."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from tests.factories import user


@pytest.fixture
def viewer(db: None) -> APIClient:
    """Somebody who may look at plans; not even staff."""
    client = APIClient()
    client.force_authenticate(user("viewer", "view_executionplan", is_staff=False))
    return client
