"""The example project: runs dynflow_app for the demo, the tutorial and the tests."""
