-- name: coverage
-- Chunks of documents that are deleted count nowhere: no search finds them.
SELECT count(*) AS chunks, count(vector.chunk_id) AS embedded,
    count(failure.chunk_id) FILTER (WHERE vector.chunk_id IS NULL) AS failed
FROM docyard.chunks AS chunk
JOIN docyard.documents AS document ON document.id = chunk.document_id AND document.deleted_at IS NULL
LEFT JOIN docyard.embeddings AS vector ON vector.model_id = %(model)s::integer
    AND vector.chunk_id = chunk.id AND vector.content_hash = chunk.content_hash
LEFT JOIN docyard.embedding_failures AS failure ON failure.model_id = %(model)s::integer
    AND failure.chunk_id = chunk.id AND failure.content_hash = chunk.content_hash;

-- name: missing_ranges
-- By keyset, a window at a time, so that no statement of a large corpus runs for minutes: what lacks a vector, in
-- the order of the ids, cut into ranges that hold so many of them each.
SELECT min(numbered.id) AS first, max(numbered.id) AS last, count(*) AS chunks
FROM (
    SELECT missing.id, (row_number() OVER (ORDER BY missing.id) - 1) / %(size)s::integer AS part
    FROM (
        SELECT chunk.id
        FROM docyard.chunks AS chunk
        JOIN docyard.documents AS document ON document.id = chunk.document_id AND document.deleted_at IS NULL
        WHERE chunk.id > %(after)s::bigint
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
        ORDER BY chunk.id
        LIMIT %(window)s::integer
    ) AS missing
) AS numbered
GROUP BY numbered.part
ORDER BY numbered.part;

-- name: workload
-- What a model (NULL: one that is not registered) would have to be sent: equal texts travel once, and a text whose
-- vector it has for another chunk does not travel at all.
SELECT coalesce(sum(alike.chunks), 0)::bigint AS chunks, count(*) FILTER (WHERE alike.travels) AS texts,
    coalesce(sum(alike.tokens) FILTER (WHERE alike.travels), 0)::bigint AS tokens
FROM (
    SELECT count(*) AS chunks, max(chunk.token_count) AS tokens,
        NOT EXISTS (
            SELECT FROM docyard.embeddings AS stored
            WHERE stored.content_hash = chunk.content_hash AND stored.model_id = %(model)s::integer
        ) AS travels
    FROM docyard.chunks AS chunk
    JOIN docyard.documents AS document ON document.id = chunk.document_id AND document.deleted_at IS NULL
    LEFT JOIN docyard.embeddings AS vector ON vector.model_id = %(model)s::integer
        AND vector.chunk_id = chunk.id AND vector.content_hash = chunk.content_hash
    LEFT JOIN docyard.embedding_failures AS failure ON failure.model_id = %(model)s::integer
        AND failure.chunk_id = chunk.id AND failure.content_hash = chunk.content_hash
    WHERE vector.chunk_id IS NULL AND failure.chunk_id IS NULL
    GROUP BY chunk.content_hash
) AS alike;

-- name: refused
-- The named exceptions: texts that the model would not take, as they are now.
SELECT failure.chunk_id, document.source_uri, chunk.ordinal, failure.code, failure.message
FROM docyard.embedding_failures AS failure
JOIN docyard.chunks AS chunk ON chunk.id = failure.chunk_id AND chunk.content_hash = failure.content_hash
JOIN docyard.documents AS document ON document.id = chunk.document_id AND document.deleted_at IS NULL
WHERE failure.model_id = %(model)s::integer
    AND NOT EXISTS (
        SELECT FROM docyard.embeddings AS vector
        WHERE vector.model_id = %(model)s::integer AND vector.chunk_id = chunk.id
            AND vector.content_hash = chunk.content_hash
    )
ORDER BY failure.chunk_id
LIMIT %(limit)s::integer;
