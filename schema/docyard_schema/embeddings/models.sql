-- fragment: columns
model.id, model.name, model.provider, model.dimension, model.hash, model.state, model.created_at,
    model.activated_at, model.retired_at, model.settings, model.backfill_to

-- name: list_models
SELECT {columns} FROM docyard.embedding_models AS model ORDER BY model.id;

-- name: get_model
SELECT {columns} FROM docyard.embedding_models AS model WHERE model.name = %(name)s;

-- name: active_model
SELECT {columns} FROM docyard.embedding_models AS model WHERE model.state = 'active';

-- name: kept_models
-- Those whose vectors are kept up to date: a retired one too, so that going back to it has no gap.
SELECT {columns} FROM docyard.embedding_models AS model
WHERE model.state IN ('building', 'ready', 'active', 'retired') ORDER BY model.id;

-- name: last_retired
SELECT {columns} FROM docyard.embedding_models AS model
WHERE model.state = 'retired' ORDER BY model.retired_at DESC NULLS LAST, model.id DESC LIMIT 1;

-- name: add_model
-- Its caller holds the chunks: nobody can add one, so the highest is a line between before and after.
INSERT INTO docyard.embedding_models AS model
    (name, provider, dimension, hash, settings, backfill_to, state, activated_at)
VALUES (%(name)s, %(provider)s, %(dimension)s, %(hash)s, %(settings)s::jsonb,
    (SELECT coalesce(max(chunk.id), 0) FROM docyard.chunks AS chunk), %(state)s::text,
    CASE WHEN %(state)s::text = 'active' THEN docyard.clock() END)
ON CONFLICT (name) DO NOTHING
RETURNING {columns};

-- name: activate_first
-- Only into an empty place: a change of models is a cut-over with its own checks.
UPDATE docyard.embedding_models AS model SET state = 'active', activated_at = docyard.clock()
WHERE model.id = %(id)s AND NOT EXISTS (SELECT FROM docyard.embedding_models WHERE state = 'active')
RETURNING {columns};

-- name: activate
UPDATE docyard.embedding_models AS model
SET state = 'active', activated_at = docyard.clock(), retired_at = NULL
WHERE model.id = %(id)s
RETURNING {columns};

-- name: add_settings
-- What is known already stays.
UPDATE docyard.embedding_models AS model SET settings = %(settings)s::jsonb || model.settings
WHERE model.id = %(id)s AND NOT model.settings ?& ARRAY(SELECT jsonb_object_keys(%(settings)s::jsonb))
RETURNING {columns};

-- name: replace_settings
-- At once or not at all: every process says so at its start, and must not wait for writers that hold the row.
UPDATE docyard.embedding_models AS model SET settings = model.settings || %(settings)s::jsonb
WHERE model.id = (
        SELECT id FROM docyard.embedding_models WHERE id = %(id)s FOR NO KEY UPDATE SKIP LOCKED
    ) AND NOT model.settings @> %(settings)s::jsonb
RETURNING {columns};

-- name: set_state
-- To become active, or to cease to be, is a cut-over and not done here.
UPDATE docyard.embedding_models AS model SET state = %(state)s
WHERE model.name = %(name)s AND model.state <> 'active'
RETURNING {columns};
