"""Settings of the example project: base, dev, test and orchestrator."""
