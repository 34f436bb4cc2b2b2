"""Django's view of this package."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RexConfig(AppConfig):
    """Remote execution."""

    name = "project.rex"
    label = "rex"
    verbose_name = _("Remote execution")
    default_auto_field = "django.db.models.BigAutoField"
