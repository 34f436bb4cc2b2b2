"""Says in the bodies of any model which plans have an object for themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Model, QuerySet
from rest_framework import serializers

from dynflow_app.api.serializers import lock_body
from dynflow_app.models import ResourceLock
from dynflow_app.models.resource_lock import resource_key
from dynflow_app.reading.holders import holders_of

if TYPE_CHECKING:
    Base = serializers.BaseSerializer[Any]
else:
    Base = object


class BusyWithMixin(Base):
    """``class HostSerializer(BusyWithMixin, ModelSerializer)``: adds ``busy_with``, a list of the plans that hold the
    object. One query for a whole list; who may see plans is for the view to decide."""

    def to_representation(self, instance: Any) -> Any:
        """The body, with ``busy_with``."""
        body = super().to_representation(instance)
        body["busy_with"] = [lock_body(lock) for lock in self._holders(instance)]
        return body

    def _holders(self, instance: Model) -> list[ResourceLock]:
        listed = getattr(self.parent, "instance", None) if isinstance(self.parent, serializers.ListSerializer) else None
        if not isinstance(listed, (list, tuple, QuerySet)):
            return holders_of([instance]).get(resource_key(instance), [])
        asked: Any = self.parent
        if getattr(asked, "_dynflow_listed", None) is not listed:
            asked._dynflow_listed, asked._dynflow_holders = listed, holders_of(listed)
        found: list[ResourceLock] = asked._dynflow_holders.get(resource_key(instance), [])
        return found
