"""Messages, as they came from the bus."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Message(models.Model):
    """One message. The bus may deliver it again; its key makes that harmless."""

    id = models.CharField(_("id"), max_length=64, primary_key=True, help_text=_("As the bus names it."))
    body = models.JSONField(_("body"))
    stored_at = models.DateTimeField(_("stored at"), default=timezone.now)

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        ordering = ("id",)

    def __str__(self) -> str:
        return self.id
