-- The lean design: ready steps are rows of a narrow queue table, no index of steps holds a state, so that updates of
-- steps touch no index; a first success leaves no attempt, and no key is checked by the database.
CREATE TABLE ready (
    queue varchar(255) NOT NULL DEFAULT 'default',
    priority smallint NOT NULL DEFAULT 0,
    step_id bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
CREATE UNIQUE INDEX ON ready (queue, priority DESC, step_id);

ALTER TABLE step SET (fillfactor = 50);
ALTER TABLE plan SET (fillfactor = 50);
CREATE UNIQUE INDEX ON action (plan_id, number);
CREATE UNIQUE INDEX ON step (plan_id, number);
CREATE INDEX ON step (gate_id) WHERE gate_id IS NOT NULL;
CREATE INDEX ON plan (created_at DESC, id DESC);
CREATE INDEX ON plan (ended_at, id) WHERE ended_at IS NOT NULL;
