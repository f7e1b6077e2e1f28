-- name: begin_filling
-- A note in the model's own row, which every search has read anyway: so it says what it lacks without asking.
UPDATE docyard.embedding_models SET settings = settings || '{"filling": true}' WHERE id = %(id)s;

-- name: end_filling
UPDATE docyard.embedding_models SET settings = settings - 'filling' WHERE id = %(id)s;
