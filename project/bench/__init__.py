"""The benchmark: what a step, a hop, a plan and an idle second cost, on real processes and servers."""
