"""Payloads: what users give and get as JSON, checked, referred to, sealed and shown."""
