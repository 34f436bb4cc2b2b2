"""What the ledger is asked all the time must not read a whole table."""

from __future__ import annotations

import pytest
from django.db import connection, transaction

from dynflow_app.models import Step


@pytest.mark.django_db
@pytest.mark.parametrize("how", [{"action_id": 1, "state": "skipping"}, {"action_id__in": [1, 2]}])
def test_steps_are_found_by_their_action(how: dict[str, object]) -> None:
    # given a database that reads a table only if it has to, however small that is
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL enable_seqscan = off")

        # when it is asked for steps of an action, then it looks them up
        answer = Step.objects.filter(**how).order_by().explain()
    assert "Index Cond: (action_id = " in answer or "INDEX dynflow_step_once_a_phase (action_id=?" in answer, answer
