"""Addresses of the example project."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("dynflow/callbacks/", include("dynflow_app.callbacks.urls")),
    path("dynflow/", include("dynflow_app.urls")),
]
