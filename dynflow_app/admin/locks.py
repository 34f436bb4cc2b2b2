"""Says on the pages of any model which plans have an object for themselves: ``class HostAdmin(BusyWithMixin, ...)``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from dynflow_app.admin import formats
from dynflow_app.admin.base import PlainAdmin
from dynflow_app.models import ResourceLock
from dynflow_app.models.resource_lock import resource_key
from dynflow_app.reading.holders import holders_of

_ATTRIBUTE = "_dynflow_busy_with"
_VIEW = "dynflow_app.view_executionplan"


class BusyWithMixin(PlainAdmin):
    """Adds ``busy_with``, for ``list_display``, and to the page of an object. One query for a whole list.

    With ``fieldsets`` or ``fields`` of your own, name it there. Who may not view plans reads only that there is one.
    """

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The list of the class, which asks once for all objects of a page."""
        plain = super().get_changelist(request, **kwargs)

        class BusyList(plain):  # type: ignore[misc, valid-type] # whichever class the model has
            def get_results(self, request: HttpRequest) -> None:
                super().get_results(request)
                rows: Any = self.result_list
                self.result_list: Any = list(rows)
                _note(request, self.result_list)

        return BusyList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """The object, with who has it."""
        found = super().get_object(request, object_id, from_field)
        if found is not None:
            _note(request, [found])
        return found

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """``busy_with`` among them, unless the object is only being made."""
        fields = list(super().get_readonly_fields(request, obj))
        return fields if obj is None or "busy_with" in fields else [*fields, "busy_with"]

    def busy_with(self, obj: Any) -> str:
        """The plans that hold the object."""
        held, may_view = getattr(obj, _ATTRIBUTE, ((), False))
        if not held:
            return formats.EMPTY
        if not may_view:
            return _("busy")
        return format_html_join(", ", "{}", ((_link(lock),) for lock in held))

    busy_with.short_description = gettext_lazy("busy with")  # type: ignore[attr-defined] # how the admin has it


def _note(request: HttpRequest, objects: Iterable[Any]) -> None:
    rows = list(objects)
    holders = holders_of(rows)
    may_view = bool(request.user.has_perm(_VIEW))
    for row in rows:
        setattr(row, _ATTRIBUTE, (holders.get(resource_key(row), ()), may_view))


def _link(lock: ResourceLock) -> str:
    name = formats.title(lock.plan)
    try:
        url = reverse("admin:dynflow_app_executionplan_change", args=[lock.plan_id])
    except NoReverseMatch:  # another admin site than the one that shows plans
        return name
    return format_html('<a href="{}">{}</a>', url, name)
