"""Messages in the admin."""

from __future__ import annotations

from django.contrib import admin

from project.events.models import Message


@admin.register(Message)
class MessageAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # generic in the stubs only
    """What came from the bus, the newest first."""

    list_display = ("id", "body", "stored_at")
    ordering = ("-id",)
    readonly_fields = ("id", "body", "stored_at")
