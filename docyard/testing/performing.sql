-- name: set_attempts
UPDATE docyard.procrastinate_jobs SET attempts = %(attempts)s WHERE id = %(id)s;

-- name: set_place
-- The job ran apart; who looks at it later finds it where such jobs are.
UPDATE docyard.procrastinate_jobs SET queue_name = %(queue)s, partition_key = %(key)s WHERE id = %(id)s;
