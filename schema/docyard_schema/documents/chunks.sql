-- name: reconcile
-- Keeps what is still there (moving its ordinal if need be), deletes what is not, and answers which of the
-- wanted are new, and whether the language of a kept one changed, whose lexemes are stale then. Only identities
-- travel, not texts: an edit of a book sends one paragraph.
WITH wanted AS (
    SELECT content_hash, occurrence, ordinal, language
    FROM unnest(%(hashes)s::bytea[], %(occurrences)s::integer[], %(ordinals)s::integer[],
            %(languages)s::text[])
        AS wanted (content_hash, occurrence, ordinal, language)
), removed AS (
    DELETE FROM docyard.chunks AS chunk
    WHERE chunk.document_id = %(document_id)s AND NOT EXISTS (
        SELECT FROM wanted
        WHERE wanted.content_hash = chunk.content_hash AND wanted.occurrence = chunk.occurrence
    )
    RETURNING chunk.id
), moved AS (
    UPDATE docyard.chunks AS chunk SET ordinal = wanted.ordinal, language = wanted.language
    FROM wanted
    WHERE chunk.document_id = %(document_id)s AND wanted.content_hash = chunk.content_hash
        AND wanted.occurrence = chunk.occurrence
        AND (wanted.ordinal <> chunk.ordinal OR wanted.language <> chunk.language)
)
SELECT (SELECT count(*) FROM removed) AS removed,
    coalesce(array_agg(wanted.ordinal) FILTER (WHERE chunk.id IS NULL), '{}') AS added,
    coalesce(bool_or(chunk.language <> wanted.language), false) AS relanguaged
FROM wanted
LEFT JOIN docyard.chunks AS chunk
    ON chunk.document_id = %(document_id)s AND chunk.content_hash = wanted.content_hash
    AND chunk.occurrence = wanted.occurrence;

-- name: add
-- Arrays and not VALUES: one statement text for any number of rows, so it is prepared once. A heading path
-- travels as one string with unit separators, for arrays of arrays must be rectangular.
INSERT INTO docyard.chunks
    (document_id, ordinal, occurrence, text, heading_path, content_hash, token_count, language, lexemes, length)
SELECT %(document_id)s::uuid, wanted.ordinal, wanted.occurrence, wanted.text, path.headings, wanted.content_hash,
    wanted.token_count, wanted.language, lexed.lexemes, docyard.lexemes_length(lexed.lexemes)
FROM unnest(%(ordinals)s::integer[], %(occurrences)s::integer[], %(texts)s::text[], %(paths)s::text[],
        %(hashes)s::bytea[], %(tokens)s::integer[], %(languages)s::text[])
    AS wanted (ordinal, occurrence, text, path, content_hash, token_count, language)
CROSS JOIN LATERAL (SELECT string_to_array(wanted.path, chr(31)) AS headings OFFSET 0) AS path
-- OFFSET 0 keeps the planner from computing the lexemes once for each of their two uses.
CROSS JOIN LATERAL (
    SELECT docyard.chunk_lexemes(wanted.language, %(title)s::text, path.headings, wanted.text) AS lexemes OFFSET 0
) AS lexed;

-- name: lex_again
-- For a new title or language.
UPDATE docyard.chunks AS chunk
SET lexemes = lexed.lexemes, length = docyard.lexemes_length(lexed.lexemes)
FROM (
    SELECT old.id, docyard.chunk_lexemes(old.language, %(title)s::text, old.heading_path, old.text) AS lexemes
    FROM docyard.chunks AS old WHERE old.document_id = %(document_id)s OFFSET 0
) AS lexed
WHERE chunk.id = lexed.id;

-- name: of_document
SELECT id, document_id, ordinal, text, heading_path, content_hash, token_count, language
FROM docyard.chunks WHERE document_id = %(document_id)s ORDER BY ordinal;
