-- name: pending
-- Chunks whose vector is missing or of another text; those that the model refused are left out.
SELECT chunk.id, chunk.heading_path, chunk.text, chunk.content_hash, chunk.token_count
FROM docyard.chunks AS chunk
WHERE chunk.document_id = ANY (%(documents)s::uuid[])
    AND NOT EXISTS (
        SELECT FROM docyard.embeddings AS vector
        WHERE vector.chunk_id = chunk.id AND vector.model_id = %(model)s::integer
            AND vector.content_hash = chunk.content_hash
    )
    AND NOT EXISTS (
        SELECT FROM docyard.embedding_failures AS failure
        WHERE failure.chunk_id = chunk.id AND failure.model_id = %(model)s::integer
            AND failure.content_hash = chunk.content_hash
    )
ORDER BY chunk.document_id, chunk.ordinal;

-- name: reuse
-- A text whose vector of this model is stored is never sent again, whichever document has it. The locks: the
-- model's row against a cut-over, the chunks against an edit that removes them before we commit (without it the
-- foreign key would fail the whole statement); in the order of their ids, so that two writers cannot wait for
-- each other.
WITH model AS MATERIALIZED (
    SELECT held.id
    FROM (SELECT pg_advisory_xact_lock_shared(hashtext('docyard.embedding_models'), %(model)s::integer)) AS gate
    CROSS JOIN docyard.embedding_models AS held
    WHERE held.id = %(model)s::integer FOR SHARE OF held
)
INSERT INTO docyard.embeddings (model_id, chunk_id, embedding, content_hash)
SELECT model.id, chunk.id, stored.embedding, chunk.content_hash
FROM model
CROSS JOIN docyard.chunks AS chunk
CROSS JOIN LATERAL (
    SELECT vector.embedding FROM docyard.embeddings AS vector
    WHERE vector.model_id = %(model)s::integer AND vector.content_hash = chunk.content_hash
    LIMIT 1
) AS stored
WHERE chunk.document_id = ANY (%(documents)s::uuid[])
    AND NOT EXISTS (
        SELECT FROM docyard.embeddings AS vector
        WHERE vector.chunk_id = chunk.id AND vector.model_id = %(model)s::integer
            AND vector.content_hash = chunk.content_hash
    )
ORDER BY chunk.id
FOR KEY SHARE OF chunk
ON CONFLICT (chunk_id, model_id) DO UPDATE
SET embedding = excluded.embedding, content_hash = excluded.content_hash;

-- name: write
-- The join leaves out chunks that an edit removed since their text was sent; the lock keeps those that stay
-- until we commit (without it the foreign key would fail the whole statement).
INSERT INTO docyard.embeddings (model_id, chunk_id, embedding, content_hash)
SELECT %(model)s::integer, chunk.id, wanted.embedding::pgvector.vector, wanted.content_hash
FROM unnest(%(chunks)s::bigint[], %(vectors)s::text[], %(hashes)s::bytea[])
    AS wanted (chunk_id, embedding, content_hash)
JOIN docyard.chunks AS chunk ON chunk.id = wanted.chunk_id AND chunk.content_hash = wanted.content_hash
ORDER BY chunk.id
FOR KEY SHARE OF chunk
ON CONFLICT (chunk_id, model_id) DO UPDATE
SET embedding = excluded.embedding, content_hash = excluded.content_hash;

-- name: hold_model
-- A writer of vectors holds its model's row, so that a cut-over waits for it and it for a cut-over. Before that it
-- passes the gate (cut_over.sql): there who came first goes first, while a row that is held FOR SHARE by one writer
-- after the other is never free for a cut-over.
SELECT model.dimension, model.state
FROM (SELECT pg_advisory_xact_lock_shared(hashtext('docyard.embedding_models'), %(model)s::integer)) AS gate
CROSS JOIN docyard.embedding_models AS model
WHERE model.id = %(model)s FOR SHARE OF model;

-- name: record_failures
INSERT INTO docyard.embedding_failures (model_id, chunk_id, code, message, content_hash)
SELECT %(model)s::integer, chunk.id, wanted.code, wanted.message, chunk.content_hash
FROM unnest(%(chunks)s::bigint[], %(codes)s::text[], %(messages)s::text[])
    AS wanted (chunk_id, code, message)
JOIN docyard.chunks AS chunk ON chunk.id = wanted.chunk_id
ORDER BY chunk.id
FOR KEY SHARE OF chunk
ON CONFLICT (chunk_id, model_id) DO UPDATE
SET attempts = embedding_failures.attempts + 1, code = excluded.code, message = excluded.message,
    content_hash = excluded.content_hash, failed_at = docyard.clock();
