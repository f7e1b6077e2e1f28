-- What text search reads. All of it is derived from the chunks, so this step goes down and up without loss.

-- Weights: A title, B headings, D text.
CREATE FUNCTION docyard.chunk_lexemes(language text, title text, heading_path text[], body text)
RETURNS tsvector
LANGUAGE sql STABLE PARALLEL SAFE
RETURN setweight(to_tsvector(language::regconfig, coalesce(title, '')), 'A')
    || setweight(to_tsvector(language::regconfig, docyard.join_text(heading_path, ' ')), 'B')
    || to_tsvector(language::regconfig, body);

ALTER TABLE docyard.chunks
    ADD COLUMN lexemes tsvector NOT NULL DEFAULT '',
    -- Positions in all, title counted three times: the document length of the BM25 formula.
    ADD COLUMN length integer NOT NULL DEFAULT 0;

-- How often a lexeme stands in a chunk, a place in the title (A) counting three times (measured best on three
-- judged collections; docs/design/search.md).
CREATE FUNCTION docyard.term_frequency(weights text[]) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN cardinality(weights) + 2 * cardinality(array_positions(weights, 'A'));

CREATE FUNCTION docyard.lexemes_length(lexemes tsvector) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT coalesce(sum(docyard.term_frequency(entry.weights)), 0)::integer FROM unnest(lexemes) AS entry);

UPDATE docyard.chunks AS chunk
SET lexemes = docyard.chunk_lexemes(chunk.language, document.title, chunk.heading_path, chunk.text)
FROM docyard.documents AS document
WHERE document.id = chunk.document_id;
UPDATE docyard.chunks SET length = docyard.lexemes_length(lexemes);

-- Every search reads the list of entries that are not merged yet. At its default of 4 MB that costs 200 ms after
-- a load; at 256 kB a few, and loading is 7 % slower (without any list, "fastupdate = off", six times).
CREATE INDEX chunks_lexemes_idx ON docyard.chunks USING gin (lexemes) WITH (gin_pending_list_limit = 256);
-- The number of chunks and their mean length, for BM25, by an index-only scan: a tenth of reading the table.
CREATE INDEX chunks_length_idx ON docyard.chunks (length);
