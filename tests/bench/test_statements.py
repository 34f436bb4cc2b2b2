"""Which statements are the server's own checks of keys, in both forms in which the server tells them."""

from __future__ import annotations

import pytest
from django.db import connection

from project.bench.statements import CHECK


@pytest.mark.parametrize(
    ("statement", "is_check"),
    [
        ('SELECT 1 FROM ONLY "public"."plan" x WHERE "id" OPERATOR(pg_catalog.=) $1 FOR KEY SHARE OF x', True),
        ('SELECT $2 FROM ONLY "public"."plan" x WHERE "id" OPERATOR(pg_catalog.=) $1 FOR KEY SHARE OF x', True),
        ('SELECT id FROM "plan" WHERE id = $1 FOR KEY SHARE', False),
    ],
)
@pytest.mark.django_db
def test_checks_of_keys_are_no_statements_of_ours(statement: str, is_check: bool) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s LIKE %s", [statement, CHECK])
        assert bool(cursor.fetchone()[0]) is is_check
