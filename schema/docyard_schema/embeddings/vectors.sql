-- fragment: lacks_vector
-- Its vector is missing or of another text, and the model has not refused that text.
NOT EXISTS (
    SELECT FROM docyard.embeddings AS vector
    WHERE vector.chunk_id = chunk.id AND vector.model_id = %(model)s::integer
        AND vector.content_hash = chunk.content_hash
)
AND NOT EXISTS (
    SELECT FROM docyard.embedding_failures AS failure
    WHERE failure.chunk_id = chunk.id AND failure.model_id = %(model)s::integer
        AND failure.content_hash = chunk.content_hash
)

-- fragment: missing_chunk
-- Without the texts: those are read when they are sent, or a book would be in memory while it waits.
SELECT chunk.id, chunk.document_id, document.collection, chunk.content_hash, chunk.token_count
FROM docyard.chunks AS chunk JOIN docyard.documents AS document ON document.id = chunk.document_id

-- name: missing_of_documents
{missing_chunk}
WHERE chunk.document_id = ANY (%(documents)s::uuid[]) AND document.deleted_at IS NULL AND {lacks_vector}
ORDER BY chunk.id;

-- name: missing_in_range
{missing_chunk}
WHERE chunk.id BETWEEN %(first)s::bigint AND %(last)s::bigint AND document.deleted_at IS NULL AND {lacks_vector}
ORDER BY chunk.id;

-- name: texts
SELECT chunk.id, chunk.heading_path, chunk.text FROM docyard.chunks AS chunk
WHERE chunk.id = ANY (%(chunks)s::bigint[]);

-- fragment: reuse
-- A text whose vector of this model is stored is never sent again, whichever document has it. The locks: the
-- model's row against a cut-over, the chunks against an edit that removes them before we commit (without it the
-- foreign key would fail the whole statement) and against other writers of their vectors; in the order of their ids,
-- so that two writers cannot wait for each other.
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
WHERE NOT EXISTS (
    SELECT FROM docyard.embeddings AS vector
    WHERE vector.chunk_id = chunk.id AND vector.model_id = %(model)s::integer
        AND vector.content_hash = chunk.content_hash
)

-- fragment: reused
ORDER BY chunk.id
FOR NO KEY UPDATE OF chunk
ON CONFLICT (chunk_id, model_id) DO UPDATE
SET embedding = excluded.embedding, content_hash = excluded.content_hash

-- name: reuse_in_documents
{reuse}
AND chunk.document_id = ANY (%(documents)s::uuid[])
{reused};

-- name: reuse_in_range
{reuse}
AND chunk.id BETWEEN %(first)s::bigint AND %(last)s::bigint
{reused};

-- name: hold_chunks
-- Leaves out what an edit removed since its text was sent. The lock keeps the rest until we commit, and makes two
-- writers of one vector take turns: COPY cannot resolve a conflict.
SELECT chunk.id FROM docyard.chunks AS chunk
JOIN unnest(%(chunks)s::bigint[], %(hashes)s::bytea[]) AS wanted (id, content_hash)
    ON wanted.id = chunk.id AND wanted.content_hash = chunk.content_hash
ORDER BY chunk.id
FOR NO KEY UPDATE OF chunk;

-- name: make_room
DELETE FROM docyard.embeddings WHERE model_id = %(model)s::integer AND chunk_id = ANY (%(chunks)s::bigint[]);

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
