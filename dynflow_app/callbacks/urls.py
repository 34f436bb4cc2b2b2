"""Mounts callbacks: ``path("dynflow/callbacks/", include("dynflow_app.callbacks.urls"))``.

The setting ``CALLBACK_URL`` says where that is for the outside world. Needs nothing but Django.
"""

from __future__ import annotations

from django.urls import path

from dynflow_app.callbacks import views

app_name = "dynflow_callbacks"

urlpatterns = [path("<str:token>/", views.receive, name="callback")]
