-- What PostgreSQL does for us in one statement. Kept with the ledger since it is the same logic: `Ticket.objects.draw`,
-- `inserting` and `recording` with `claiming` are the general ways, which other databases and unusual cases take, and
-- a test compares the ledgers that both leave behind.
--
-- The names end in a version: another version is another function, so that old processes go on beside new ones.

-- Draw tickets for steps that have just become ready, none of which has a limit.
CREATE OR REPLACE FUNCTION dynflow_draw_1(p_steps bigint[]) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $body$
#variable_conflict use_column
BEGIN
    WITH fresh AS MATERIALIZED (
        SELECT step.id, step.queue, -step.priority AS rank, plan.fairness_weight,
            CASE WHEN plan.fairness_key = '' THEN plan.id::text ELSE plan.fairness_key END AS fairness_key
        FROM dynflow_app_step step JOIN dynflow_app_executionplan plan ON plan.id = step.plan_id
        WHERE step.id = ANY(p_steps)
    ), lasts AS MATERIALIZED (
        SELECT shares.queue, shares.rank, shares.fairness_key, greatest(
            coalesce((SELECT min(line.tag) FROM dynflow_app_ticket line WHERE line.queue = shares.queue
                AND line.rank = shares.rank AND line.world_id IS NULL AND line.throttled_by IS NULL), 0),
            coalesce((SELECT max(line.tag) FROM dynflow_app_ticket line WHERE line.queue = shares.queue
                AND line.rank = shares.rank AND line.fairness_key = shares.fairness_key
                AND line.world_id IS NULL AND line.throttled_by IS NULL), 0)) AS tag
        FROM (SELECT DISTINCT fresh.queue, fresh.rank, fresh.fairness_key FROM fresh) shares
    )
    INSERT INTO dynflow_app_ticket (step_id, queue, rank, tag, fairness_key)
    SELECT fresh.id, fresh.queue, fresh.rank, lasts.tag + row_number() OVER (
        PARTITION BY fresh.queue, fresh.rank, fresh.fairness_key ORDER BY fresh.id
    ) / fresh.fairness_weight, fresh.fairness_key
    FROM fresh JOIN lasts ON lasts.queue = fresh.queue AND lasts.rank = fresh.rank
        AND lasts.fairness_key = fresh.fairness_key
    ORDER BY fresh.id;
END $body$;

-- Store a small plan: its columns, its actions, its steps, each with what is the same for all of them. A column that
-- the caller does not know becomes null, so a migration that adds one which must not be null has to replace this, too.
CREATE OR REPLACE FUNCTION dynflow_plan_1(
    p_plan jsonb, p_action jsonb, p_actions jsonb, p_step jsonb, p_steps jsonb
) RETURNS void LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
AS $body$
DECLARE
    v_plan uuid := (p_plan->>'id')::uuid;
    v_action jsonb;
    v_step jsonb;
    v_keys jsonb := '{}';
    v_key bigint;
    v_ready bigint[] := '{}';
BEGIN
    INSERT INTO dynflow_app_executionplan
    SELECT * FROM jsonb_populate_record(NULL::dynflow_app_executionplan, p_plan);
    FOR v_action IN SELECT jsonb_array_elements(p_actions) LOOP
        v_key := nextval(pg_get_serial_sequence('dynflow_app_action', 'id'));
        v_keys := v_keys || jsonb_build_object(v_action->>'number', v_key);
        INSERT INTO dynflow_app_action SELECT * FROM jsonb_populate_record(
            NULL::dynflow_app_action, p_action || v_action || jsonb_build_object('id', v_key, 'plan_id', v_plan));
    END LOOP;
    FOR v_step IN SELECT jsonb_array_elements(p_steps) LOOP
        v_key := nextval(pg_get_serial_sequence('dynflow_app_step', 'id'));
        INSERT INTO dynflow_app_step SELECT * FROM jsonb_populate_record(
            NULL::dynflow_app_step, p_step || v_step || jsonb_build_object(
                'id', v_key, 'plan_id', v_plan, 'action_id', v_keys->(v_step->>'action'),
                'ready_at', CASE WHEN v_step->>'state' = 'ready' THEN statement_timestamp() END));
        IF v_step->>'state' = 'ready' THEN v_ready := v_ready || v_key; END IF;
    END LOOP;
    IF cardinality(v_ready) > 0 THEN PERFORM dynflow_draw_1(v_ready); END IF;
END $body$;

-- One turn of a worker in one statement: record first successes, release, count, go on or stop, claim, load.
--
-- Does what `record` and `claim` do for what most turns are made of: run, revert and finalize steps that succeeded, of
-- plans that run and do not fail fast, without limits and events. Anything else raises DYN01 before or after some
-- writes; the caller's statement is rolled back by that, and the general way is taken.
CREATE OR REPLACE FUNCTION dynflow_turn_1(
    p_plans uuid[], p_ids bigint[], p_attempts int[], p_ages float8[], p_seconds float8[], p_awaited bigint[],
    p_actions bigint[], p_outputs text[], p_inputs text[],
    p_worker text, p_world uuid, p_queues text[], p_ranks int[], p_tags float8[], p_limit int
) RETURNS TABLE (
    step_id bigint, plan_id uuid, number int, phase text, is_awaited bool, queue text, action_id bigint,
    action_number int, name text, input jsonb, consumes jsonb, output jsonb, cause text, failures int,
    remaining float8, attempt int, is_limited bool, companions bigint, rank int, tag float8
) LANGUAGE plpgsql
-- Tables that come and go have statistics that are never true: tickets are none when they are analysed, and thousands
-- a moment later. So every table is reached by the keys that are given (= ANY), never by a join that could be turned
-- round, and phases are compared as expressions, lest an index on them be read from end to end.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
SET jit = off
AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := statement_timestamp();
    v_simple bool;
    v_accepted int;
    v_ended jsonb;
    v_open bigint[];
    v_more bigint[];
    v_ready jsonb := '{}';
    v_some jsonb;
    v_released jsonb := '{}';
    v_limited bool;
    v_fresh bigint[];
    v_quiet uuid[];
    v_well uuid[];
    v_going uuid[];
    v_stopped uuid[] := '{}';
    v_tallied bool := false;
    v_left int := p_limit;
    v_taken int;
    v_look int;
    v_picked bigint[];
BEGIN
    IF cardinality(p_ids) > 0 THEN
        SELECT bool_and(locked.state = 'running' AND NOT locked.fail_fast) INTO v_simple FROM (
            SELECT plan.state, plan.fail_fast FROM dynflow_app_executionplan plan
            WHERE plan.id = ANY(p_plans) ORDER BY plan.id FOR NO KEY UPDATE
        ) locked;
        IF v_simple IS NOT TRUE THEN RAISE EXCEPTION 'general' USING ERRCODE = 'DYN01'; END IF;

        -- record
        WITH recorded AS (
            UPDATE dynflow_app_step step SET state = 'success', error = NULL, cause = 'start', deadline_at = NULL,
                alarm = '', alarm_at = NULL, ran_for = step.ran_for + given.seconds,
                started_at = CASE WHEN given.seconds > 0
                    THEN v_now - make_interval(secs => given.age + given.seconds) ELSE step.started_at END,
                ended_at = v_now - make_interval(secs => given.age)
            FROM unnest(p_ids, p_attempts, p_ages, p_seconds) AS given(id, attempt, age, seconds)
            WHERE step.id = given.id AND step.id = ANY(p_ids) AND step.state = 'running'
                AND step.attempt = given.attempt
                AND step.limit_key IS NULL AND NOT step.is_addressed
            RETURNING step.id, step.plan_id, step.attempt, step.started_at, step.ended_at
        ), told AS (
            INSERT INTO dynflow_app_attempt (step_id, number, ended_as, worker, error, started_at, ended_at)
            SELECT recorded.id, recorded.attempt, 'succeeded', p_worker, NULL, recorded.started_at, recorded.ended_at
            FROM recorded WHERE recorded.attempt > 1
        )
        SELECT coalesce(sum(ended.n), 0), coalesce(jsonb_object_agg(ended.plan_id, ended.n), '{}')
            INTO v_accepted, v_ended FROM (
                SELECT recorded.plan_id, count(*)::int AS n FROM recorded GROUP BY 1
            ) ended;
        IF v_accepted <> cardinality(p_ids) THEN RAISE EXCEPTION 'general' USING ERRCODE = 'DYN01'; END IF;
        DELETE FROM dynflow_app_ticket ticket WHERE ticket.step_id = ANY(p_ids);
        IF cardinality(p_actions) > 0 THEN
            UPDATE dynflow_app_action action SET
                output = COALESCE(made.output::jsonb, action.output),
                input = COALESCE(made.input::jsonb, action.input),
                planned_input = CASE WHEN made.input IS NULL THEN action.planned_input
                    ELSE COALESCE(action.planned_input, action.input) END
            FROM unnest(p_actions, p_outputs, p_inputs) AS made(action_id, output, input)
            WHERE action.id = made.action_id AND action.id = ANY(p_actions);
        END IF;

        -- release: gates are counted down, then those behind them, until none opens
        v_more := p_awaited;
        IF cardinality(v_more) > 0 THEN
            WITH opened AS (
                UPDATE dynflow_app_gate gate SET waits_for = gate.waits_for - ended.n
                FROM (
                    SELECT dependency.gate_id, count(*)::int AS n FROM dynflow_app_dependency dependency
                    WHERE dependency.step_id = ANY(v_more) GROUP BY 1
                ) ended WHERE gate.id = ended.gate_id RETURNING gate.id, gate.waits_for, gate.is_awaited
            )
            SELECT array_agg(opened.id) FILTER (WHERE opened.waits_for = 0),
                array_agg(opened.id) FILTER (WHERE opened.waits_for = 0 AND opened.is_awaited)
                INTO v_open, v_more FROM opened;
            WHILE cardinality(v_more) > 0 LOOP
                WITH opened AS (
                    UPDATE dynflow_app_gate gate SET waits_for = gate.waits_for - ended.n
                    FROM (
                        SELECT dependency.gate_id, count(*)::int AS n FROM dynflow_app_dependency dependency
                        WHERE dependency.after_gate_id = ANY(v_more) GROUP BY 1
                    ) ended WHERE gate.id = ended.gate_id RETURNING gate.id, gate.waits_for, gate.is_awaited
                )
                SELECT v_open || array_agg(opened.id) FILTER (WHERE opened.waits_for = 0),
                    array_agg(opened.id) FILTER (WHERE opened.waits_for = 0 AND opened.is_awaited)
                    INTO v_open, v_more FROM opened;
            END LOOP;
        END IF;
        IF cardinality(v_open) > 0 THEN
            WITH released AS (
                UPDATE dynflow_app_step step SET state = 'ready', ready_at = v_now,
                    alarm = CASE WHEN step.start_timeout IS NULL THEN '' ELSE 'start' END,
                    alarm_at = CASE WHEN step.start_timeout IS NOT NULL
                        THEN v_now + make_interval(secs => step.start_timeout) END
                FROM unnest(v_open) AS opened(id)
                WHERE step.gate_id = opened.id AND step.state = 'pending' AND step.phase IN ('run', 'revert')
                RETURNING step.id, step.plan_id, step.queue, step.limit_key, step.start_timeout
            )
            SELECT array_agg(released.id ORDER BY released.id),
                coalesce((SELECT jsonb_object_agg(q.queue, q.n) FROM (
                    SELECT queues.queue, count(*) AS n FROM released queues GROUP BY 1) q), '{}'),
                coalesce((SELECT jsonb_object_agg(p.plan_id, p.n) FROM (
                    SELECT plans.plan_id, count(*) AS n FROM released plans GROUP BY 1) p), '{}'),
                coalesce(bool_or(released.limit_key IS NOT NULL OR released.start_timeout IS NOT NULL), false)
                INTO v_fresh, v_ready, v_released, v_limited FROM released;
            IF v_limited THEN RAISE EXCEPTION 'general' USING ERRCODE = 'DYN01'; END IF;
            IF cardinality(v_fresh) > 0 THEN PERFORM dynflow_draw_1(v_fresh); END IF;
        END IF;

        -- count; plans of which no step is active go on, stop, or are the orchestrator's
        WITH counted AS (
            UPDATE dynflow_app_executionplan plan SET revision = plan.revision + 1,
                active_steps = plan.active_steps - (v_ended->>plan.id::text)::int
                    + coalesce((v_released->>plan.id::text)::int, 0)
            WHERE plan.id = ANY(p_plans) RETURNING plan.id, plan.active_steps
        )
        SELECT array_agg(counted.id) INTO v_quiet FROM counted WHERE counted.active_steps = 0;
        IF cardinality(v_quiet) > 0 THEN
            -- LIMIT keeps it a look-up for each plan: where few plans have most steps, a join would read all steps.
            SELECT array_agg(quiet.id) INTO v_well FROM unnest(v_quiet) AS quiet(id) WHERE (
                SELECT other.id FROM dynflow_app_step other
                WHERE other.plan_id = quiet.id AND other.phase || '' IN ('run', 'revert', 'finalize')
                    AND other.state <> 'success' AND NOT (other.phase || '' = 'finalize' AND other.state = 'pending')
                LIMIT 1) IS NULL;
        END IF;
        IF cardinality(v_well) > 0 THEN
            WITH first AS (
                SELECT min(step.id) AS id FROM dynflow_app_step step
                JOIN dynflow_app_executionplan plan ON plan.id = step.plan_id AND plan.has_finalize
                WHERE step.plan_id = ANY(v_well) AND step.phase || '' = 'finalize' AND step.state = 'pending'
                GROUP BY step.plan_id
            ), begun AS (
                UPDATE dynflow_app_step step SET state = 'ready', ready_at = v_now
                FROM first WHERE step.id = first.id AND step.state = 'pending'
                RETURNING step.id, step.plan_id, step.queue
            ), active AS (
                UPDATE dynflow_app_executionplan plan SET active_steps = plan.active_steps + 1,
                    revision = plan.revision + 1
                FROM begun WHERE plan.id = begun.plan_id RETURNING begun.id, begun.plan_id, begun.queue
            )
            SELECT array_agg(active.id ORDER BY active.id), coalesce(array_agg(active.plan_id), '{}'),
                (SELECT jsonb_object_agg(q.queue, q.n + coalesce((v_ready->>q.queue)::int, 0)) FROM (
                    SELECT queues.queue, count(*) AS n FROM active queues GROUP BY 1) q)
                INTO v_fresh, v_going, v_some FROM active;
            IF cardinality(v_fresh) > 0 THEN PERFORM dynflow_draw_1(v_fresh); END IF;
            v_ready := v_ready || coalesce(v_some, '{}');
            WITH over AS (
                UPDATE dynflow_app_executionplan plan SET state = 'stopped', result = 'success', ended_at = v_now,
                    revision = plan.revision + 1
                WHERE plan.id = ANY(v_well) AND plan.id <> ALL(v_going) AND plan.state = 'running'
                    AND plan.hooks = '[]' AND NOT plan.has_locks
                    AND NOT EXISTS (SELECT 1 FROM dynflow_app_prerequisite later WHERE later.after_id = plan.id)
                RETURNING plan.id, plan.parent_step_id, plan.position
            ), tallied AS (
                INSERT INTO dynflow_app_envelope (kind, plan_id, step_id, payload, created_at)
                SELECT 'sub-plans', parent.plan_id, parent.id, jsonb_build_object('success', ended.n), v_now FROM (
                    SELECT over.parent_step_id, count(*) AS n FROM over
                    WHERE over.parent_step_id IS NOT NULL AND over.position IS NOT NULL GROUP BY 1
                ) ended JOIN dynflow_app_step parent ON parent.id = ended.parent_step_id
                RETURNING 1
            )
            SELECT coalesce(array_agg(over.id), '{}'), EXISTS (SELECT 1 FROM tallied) INTO v_stopped, v_tallied FROM over;
            v_quiet := ARRAY(SELECT unnest(v_quiet) EXCEPT SELECT unnest(v_going) EXCEPT SELECT unnest(v_stopped));
        END IF;
        IF cardinality(v_quiet) > 0 THEN
            INSERT INTO dynflow_app_envelope (kind, plan_id, created_at)
            SELECT 'settled', quiet.id, v_now FROM unnest(v_quiet) AS quiet(id);
        END IF;
        RETURN QUERY SELECT NULL::bigint, NULL::uuid, NULL::int, NULL::text, NULL::bool, NULL::text, NULL::bigint,
            NULL::int, NULL::text, jsonb_build_object('ready', v_ready, 'stopped', to_jsonb(v_stopped),
                'rings', v_tallied OR coalesce(cardinality(v_quiet), 0) > 0),
            NULL::jsonb, NULL::jsonb, NULL::text, NULL::int, NULL::float8, NULL::int, NULL::bool, NULL::bigint,
            NULL::int, NULL::float8;
    END IF;

    -- claim and load: in each queue what is urgent, then from where the last claim ended, then whatever there is
    IF v_left > 0 AND NOT EXISTS (
        SELECT 1 FROM dynflow_app_world world WHERE world.id = p_world AND world.state <> 'invalidated'
    ) THEN v_left := 0; END IF;
    FOR v_line IN 1 .. cardinality(p_queues) LOOP
        FOR v_look IN CASE WHEN p_tags[v_line] IS NULL THEN 3 ELSE 1 END .. 3 LOOP
            EXIT WHEN v_left <= 0;
            SELECT coalesce(array_agg(picked.step_id), '{}') INTO v_picked FROM (
                SELECT ticket.step_id FROM dynflow_app_ticket ticket
                WHERE ticket.world_id IS NULL AND ticket.throttled_by IS NULL AND ticket.queue = p_queues[v_line]
                    AND (ticket.rank, ticket.tag) >= (
                        CASE WHEN v_look = 2 THEN p_ranks[v_line] ELSE -40000 END,
                        CASE WHEN v_look = 2 THEN p_tags[v_line] ELSE '-infinity'::float8 END)
                    AND ticket.rank < CASE WHEN v_look = 1 THEN p_ranks[v_line] ELSE 40000 END
                ORDER BY ticket.rank, ticket.tag, ticket.step_id LIMIT v_left FOR UPDATE SKIP LOCKED
            ) picked;
            CONTINUE WHEN cardinality(v_picked) = 0;
            RETURN QUERY WITH taken AS (
                UPDATE dynflow_app_ticket ticket SET world_id = p_world
                WHERE ticket.step_id = ANY(v_picked) RETURNING ticket.step_id, ticket.rank, ticket.tag
            ), begun AS (
                UPDATE dynflow_app_step step SET state = 'running', attempt = step.attempt + 1, worker = p_worker,
                    started_at = v_now, alarm = '', alarm_at = NULL
                FROM taken WHERE step.id = taken.step_id AND step.id = ANY(v_picked) AND step.state = 'ready'
                RETURNING step.*, taken.rank, taken.tag
            )
            SELECT begun.id, begun.plan_id, begun.number, begun.phase::text, begun.is_awaited, begun.queue::text,
                action.id, action.number, action.name::text, action.input, action.consumes, action.output,
                begun.cause::text, begun.failures::int, extract(epoch FROM begun.deadline_at - v_now)::float8,
                begun.attempt, begun.slot IS NOT NULL,
                CASE WHEN begun.phase = 'finalize' THEN (
                    SELECT count(*) FROM dynflow_app_step other
                    WHERE other.plan_id = begun.plan_id AND other.phase || '' = 'finalize' AND other.state = 'pending'
                ) ELSE 0 END, begun.rank::int, begun.tag
            FROM begun JOIN dynflow_app_action action ON action.id = begun.action_id;
            GET DIAGNOSTICS v_taken = ROW_COUNT;
            v_left := v_left - v_taken;
        END LOOP;
    END LOOP;
END $body$;
