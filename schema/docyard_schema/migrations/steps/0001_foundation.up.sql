-- What every later step stands on. The schema itself and schema_migrations are made by the runner,
-- which must write there before the first step exists.

-- The only clock that docyard's SQL reads. A test moves time with SET docyard.now = '2026-01-01…';
-- nothing else does, so in production this is now() and the planner inlines it.
CREATE FUNCTION docyard.clock() RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(nullif(current_setting('docyard.now', true), '')::timestamptz, now());

-- array_to_string is only STABLE (it may call an element's output function); for text it never changes,
-- and an expression index or a generated column needs to hear that.
CREATE FUNCTION docyard.join_text(parts text[], separator text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN array_to_string(parts, separator);
