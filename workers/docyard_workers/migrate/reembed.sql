-- name: worth_an_index
-- Exact: the statistics of a partition that was just filled are not there yet.
SELECT count(*) >= %(rows)s::bigint FROM (
    SELECT FROM docyard.embeddings AS vector WHERE vector.model_id = %(model)s::integer LIMIT %(rows)s::bigint
) AS counted;
