-- literal: model = 1
-- literal: dimension = 256

-- name: bounds
SELECT min(vector.chunk_id), max(vector.chunk_id) FROM docyard.embeddings AS vector
WHERE vector.model_id = %(model)s::integer;

-- name: sample
-- The first vector at or after each of some points among the ids: index probes, whatever the table's size.
SELECT DISTINCT ON (found.chunk_id) found.chunk_id, found.embedding::text AS vector, other.embedding::text AS other
FROM unnest(%(points)s::bigint[]) AS point (id)
CROSS JOIN LATERAL (
    SELECT vector.chunk_id, vector.embedding
    FROM docyard.embeddings AS vector
    WHERE vector.model_id = %(model)s::integer AND vector.chunk_id >= point.id
    ORDER BY vector.chunk_id
    LIMIT 1
) AS found
LEFT JOIN docyard.embeddings AS other ON other.chunk_id = found.chunk_id AND other.model_id = %(other)s::integer
ORDER BY found.chunk_id;

-- name: like_a_search
-- The settings of an ordinary search, for this transaction; the cast comes first, since it loads pgvector's
-- library, before which its settings are unknown to the session.
SELECT pgvector.vector_dims('[1]'::pgvector.vector),
    set_config('hnsw.ef_search', '300', true),
    set_config('hnsw.iterative_scan', 'relaxed_order', true),
    set_config('hnsw.max_scan_tuples', '20000', true),
    set_config('plan_cache_mode', 'force_custom_plan', true),
    set_config('jit', 'off', true);

-- name: nearest
-- The operator on the indexed expression, the vector bound directly, model and dimension as literals: in any other
-- shape the index is silently not used.
SELECT vector.chunk_id, vector.embedding::pgvector.halfvec({dimension})
    OPERATOR(pgvector.<=>) %(vector)s::pgvector.halfvec({dimension}) AS distance
FROM docyard.embeddings AS vector
WHERE vector.model_id = {model}
ORDER BY vector.embedding::pgvector.halfvec({dimension})
    OPERATOR(pgvector.<=>) %(vector)s::pgvector.halfvec({dimension})
LIMIT %(limit)s::integer;

-- name: exact_nearest
-- By reading all vectors: "+ 0" is no expression that an index has. Switching index scans off is not enough, the
-- planner took the index all the same.
SELECT vector.chunk_id, vector.embedding::pgvector.halfvec({dimension})
    OPERATOR(pgvector.<=>) %(vector)s::pgvector.halfvec({dimension}) AS distance
FROM docyard.embeddings AS vector
WHERE vector.model_id = {model}
ORDER BY (vector.embedding::pgvector.halfvec({dimension})
    OPERATOR(pgvector.<=>) %(vector)s::pgvector.halfvec({dimension})) + 0
LIMIT %(limit)s::integer;
