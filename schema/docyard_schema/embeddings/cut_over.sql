-- name: one_at_a_time
-- One change of the active model at a time, drops included; no model has the number 0. What is checked under the
-- locks must be read after they were granted, so a transaction with one snapshot for all is no place for it.
SELECT current_setting('transaction_isolation') FROM pg_advisory_xact_lock(hashtext('docyard.embedding_models'), 0);

-- name: close_gate
-- Waits for the writers of a model's vectors and keeps new ones out until we commit. It comes before the row's
-- lock, for row locks are not given in turn: a FOR UPDATE waited 110 s behind four writers that held the row FOR
-- SHARE one after the other, and lock_timeout did not end it.
SELECT pg_advisory_xact_lock(hashtext('docyard.embedding_models'), %(id)s::integer);

-- name: close_all_gates
-- For what locks all vectors at once: who waits for their writers here keeps no search waiting.
SELECT pg_advisory_xact_lock(hashtext('docyard.embedding_models'), model.id)
FROM (SELECT id FROM docyard.embedding_models ORDER BY id) AS model;

-- name: hold_row
SELECT id FROM docyard.embedding_models WHERE id = %(id)s FOR UPDATE;

-- fragment: lacking
-- Chunks of live documents that the new model has neither a vector of nor a refusal.
SELECT chunk.id, chunk.id <= %(backfill_to)s::bigint AS old, EXISTS (
        SELECT FROM docyard.embeddings AS vector
        WHERE vector.chunk_id = chunk.id AND vector.model_id = {from_model}
            AND vector.content_hash = chunk.content_hash
    ) AS searchable
FROM docyard.chunks AS chunk
JOIN docyard.documents AS document ON document.id = chunk.document_id AND document.deleted_at IS NULL
WHERE NOT EXISTS (
        SELECT FROM docyard.embeddings AS vector
        WHERE vector.chunk_id = chunk.id AND vector.model_id = {to_model}
            AND vector.content_hash = chunk.content_hash
    )
    AND NOT EXISTS (
        SELECT FROM docyard.embedding_failures AS failure
        WHERE %(except_failed)s::boolean AND failure.chunk_id = chunk.id AND failure.model_id = {to_model}
            AND failure.content_hash = chunk.content_hash
    )

-- name: missing
-- What was there when the new model was registered is a migration's. Of what came later that counts which the
-- model in use finds; the rest is on its way to both. The models are literals, so that one partition is planned.
-- literal: from_model = 0
-- literal: to_model = 0
SELECT count(*) FILTER (WHERE lacking.old) AS never_made,
    count(*) FILTER (WHERE NOT lacking.old AND lacking.searchable) AS late,
    count(*) FILTER (WHERE NOT lacking.old AND NOT lacking.searchable) AS on_their_way,
    coalesce((array_agg(lacking.id) FILTER (WHERE NOT lacking.old AND lacking.searchable))[:1000], '{}')
        AS late_chunks
FROM ({lacking}) AS lacking;

-- name: still_missing
SELECT count(*) FROM ({lacking} AND chunk.id = ANY (%(chunks)s::bigint[])) AS lacking;

-- name: retire
-- Going back takes the last one that was retired. The clock stands still in a transaction, and this one may have
-- waited for another that began later.
UPDATE docyard.embedding_models SET state = 'retired', retired_at = greatest(
    docyard.clock(), (SELECT max(other.retired_at) + interval '1 microsecond' FROM docyard.embedding_models AS other)
) WHERE id = %(id)s;

-- name: forget_failures
DELETE FROM docyard.embedding_failures WHERE model_id = %(id)s;

-- name: remember
-- Settings of some process may ask for the dropped model for long; whoever was in its place knows that it stood there.
UPDATE docyard.embedding_models AS model
SET settings = model.settings || jsonb_build_object('replaced',
    coalesce(model.settings -> 'replaced', '[]') || coalesce(dropped.settings -> 'replaced', '[]')
        || to_jsonb(dropped.hash))
FROM docyard.embedding_models AS dropped
WHERE dropped.id = %(id)s AND dropped.activated_at IS NOT NULL AND model.state = 'active';

-- name: forget
DELETE FROM docyard.embedding_models WHERE id = %(id)s;
