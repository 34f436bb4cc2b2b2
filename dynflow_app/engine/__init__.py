"""Pure decisions: no database, no Redis, no clock."""
