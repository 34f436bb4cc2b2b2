"""Tests of dynflow_app and of the example project."""
