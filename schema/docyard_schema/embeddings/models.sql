-- name: list_models
SELECT id, name, provider, dimension, hash, state, created_at, activated_at, retired_at
FROM docyard.embedding_models ORDER BY id;

-- name: get_model
SELECT id, name, provider, dimension, hash, state, created_at, activated_at, retired_at
FROM docyard.embedding_models WHERE name = %(name)s;

-- name: active_model
SELECT id, name, provider, dimension, hash, state, created_at, activated_at, retired_at
FROM docyard.embedding_models WHERE state = 'active';

-- name: add_model
INSERT INTO docyard.embedding_models (name, provider, dimension, hash)
VALUES (%(name)s, %(provider)s, %(dimension)s, %(hash)s)
ON CONFLICT (name) DO NOTHING
RETURNING id, name, provider, dimension, hash, state, created_at, activated_at, retired_at;

-- name: activate_first
-- Only into an empty place: a change of models is a migration with its own checks.
UPDATE docyard.embedding_models SET state = 'active', activated_at = docyard.clock()
WHERE id = %(id)s AND NOT EXISTS (SELECT FROM docyard.embedding_models WHERE state = 'active')
RETURNING id, name, provider, dimension, hash, state, created_at, activated_at, retired_at;
