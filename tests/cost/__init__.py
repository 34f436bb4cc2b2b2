"""What the engine costs, counted and compared with a budget."""
