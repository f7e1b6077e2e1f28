-- name: plan_sweep
-- For each model that is kept up to date: from which chunk on to look, and what not to look at, because it waits.
-- A document that was written before the oldest unfinished job was enqueued has none of its own any more, but for
-- those of a migration's ranges and those that a sweep enqueued. What waits is read through the indexes that the claim
-- goes by. Chunks that were there before a model which is being built are its migration's.
WITH unfinished AS MATERIALIZED (
    SELECT waiting.created_at, waiting.args,
        coalesce(waiting.args ->> 'model', (SELECT active.name FROM docyard.embedding_models AS active
                                            WHERE active.state = 'active')) AS model
    FROM (
        SELECT job.task_name, job.created_at, job.args FROM docyard.procrastinate_jobs AS job
        WHERE job.status = 'todo' AND job.scheduled_at IS NULL AND job.partition_key IS NULL AND job.parked IS NULL
            AND job.queue_name = ANY (%(queues)s::text[])
        UNION ALL
        SELECT job.task_name, job.created_at, job.args FROM docyard.procrastinate_jobs AS job
        WHERE job.status = 'todo' AND job.scheduled_at IS NOT NULL AND job.partition_key IS NULL
            AND job.queue_name = ANY (%(queues)s::text[])
        UNION ALL
        SELECT job.task_name, job.created_at, job.args FROM docyard.procrastinate_jobs AS job
        WHERE job.status = 'todo' AND job.partition_key IS NOT NULL AND job.queue_name = ANY (%(queues)s::text[])
        UNION ALL
        SELECT job.task_name, job.created_at, job.args FROM docyard.procrastinate_jobs AS job
        WHERE job.status = 'doing' AND job.worker_id IS NOT NULL AND job.queue_name = ANY (%(queues)s::text[])
    ) AS waiting
    WHERE waiting.task_name = ANY (%(kinds)s::text[])
)
SELECT model.id AS model_id, model.name AS model, model.state,
    CASE WHEN model.state = 'building' THEN model.backfill_to ELSE 0 END AS migrated_to,
    coalesce(sweep.after_chunk, 0) AS after_chunk,
    least(docyard.clock() - interval '1 minute', waits.oldest) AS horizon,
    waits.first_chunk, waits.last_chunk, coalesce(waits.swept, '{}') AS swept
FROM docyard.embedding_models AS model
LEFT JOIN docyard.embedding_sweeps AS sweep ON sweep.model_id = model.id
CROSS JOIN LATERAL (
    SELECT
        min(job.created_at) FILTER (WHERE NOT job.args ? 'swept' AND NOT job.args ? 'first') AS oldest,
        min((job.args ->> 'first')::bigint) AS first_chunk,
        max((job.args ->> 'last')::bigint) AS last_chunk,
        array_agg((job.args ->> 'document_id')::uuid) FILTER (WHERE job.args ? 'swept') AS swept
    FROM unfinished AS job WHERE job.model = model.name
) AS waits
WHERE model.state IN ('building', 'ready', 'active', 'retired')
ORDER BY model.id;

-- name: find_lacking
-- A page of chunks in the order of their ids, and the documents among them that lack vectors nobody is about to make.
-- A text that failed for what may have passed is tried again after a day, a few times.
WITH page AS MATERIALIZED (
    SELECT chunk.id, chunk.document_id, chunk.content_hash FROM docyard.chunks AS chunk
    WHERE chunk.id > %(after)s::bigint
    ORDER BY chunk.id
    LIMIT %(size)s::integer
), lacking AS (
    SELECT page.document_id, count(*) AS texts
    FROM page
    JOIN docyard.documents AS document ON document.id = page.document_id
        AND document.deleted_at IS NULL AND document.updated_at < %(horizon)s::timestamptz
    WHERE (page.id BETWEEN %(first)s::bigint AND %(last)s::bigint) IS NOT TRUE
        AND NOT EXISTS (
            SELECT FROM docyard.embeddings AS vector
            WHERE vector.chunk_id = page.id AND vector.model_id = %(model)s::integer
                AND vector.content_hash = page.content_hash
        )
        AND NOT EXISTS (
            SELECT FROM docyard.embedding_failures AS failure
            WHERE failure.chunk_id = page.id AND failure.model_id = %(model)s::integer
                AND failure.content_hash = page.content_hash
                AND NOT (failure.code = ANY (%(passing)s::text[]) AND failure.attempts < %(most)s::integer
                    AND failure.failed_at < docyard.clock() - interval '1 day')
        )
    GROUP BY page.document_id
)
SELECT (SELECT count(*) FROM page) AS examined, (SELECT max(page.id) FROM page) AS last_chunk,
    coalesce(array_agg(lacking.document_id ORDER BY lacking.document_id), '{}') AS documents,
    coalesce(array_agg(lacking.texts ORDER BY lacking.document_id), '{}') AS texts
FROM lacking;

-- name: forgive
-- Without the hash of a text the failure is of none, and the chunk counts as missing. The row stays for its attempts.
UPDATE docyard.embedding_failures AS failure SET content_hash = ''
FROM docyard.chunks AS chunk
WHERE chunk.document_id = ANY (%(documents)s::uuid[]) AND failure.chunk_id = chunk.id
    AND failure.model_id = %(model)s::integer
    AND failure.code = ANY (%(passing)s::text[]) AND failure.attempts < %(most)s::integer
    AND failure.failed_at < docyard.clock() - interval '1 day';

-- name: remember
INSERT INTO docyard.embedding_sweeps (model_id, after_chunk, swept_at)
VALUES (%(model)s, %(after)s, docyard.clock())
ON CONFLICT (model_id) DO UPDATE SET after_chunk = excluded.after_chunk, swept_at = excluded.swept_at;
