"""What every page of the console shares: it shows, and never adds, changes or deletes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest

from dynflow_app.admin.formats import EMPTY

if TYPE_CHECKING:
    PlainAdmin = admin.ModelAdmin[Any]
else:
    PlainAdmin = admin.ModelAdmin


class ReadOnlyAdmin(PlainAdmin):
    """A model to look at. Django's view permission decides who may."""

    actions = None
    sortable_by = ()
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # counting for every filter takes minutes on large tables
    empty_value_display = EMPTY

    class Media:
        css = {"all": ["dynflow_app/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Only the engine makes rows."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only the engine changes rows."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only the engine removes rows."""
        return False
