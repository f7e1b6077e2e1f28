-- The parts of the search statements. docyard_schema.search.statement puts them together, one statement per
-- mode; alone they are not statements. Figures: docs/design/search.md.
-- Two words in braces are replaced there, by integers and nothing else: {model}, the id in the name of a
-- partition of vectors, and {dimension}. As parameters they would hide the partition and its expression
-- index from a generic plan.

-- name: question
-- What must hold in every branch (phrases and exclusions), and what the strict branch asks for.
question AS MATERIALIZED (
    SELECT asked.required, CASE WHEN numnode(asked.strict) > 0 THEN asked.strict && asked.required END AS strict
    FROM (
        SELECT websearch_to_tsquery(%(language)s::regconfig, %(strict)s) AS strict,
            websearch_to_tsquery(%(language)s::regconfig, %(phrases)s)
                && websearch_to_tsquery(%(language)s::regconfig, %(exclusions)s) AS required
    ) AS asked
)

-- name: terms
-- Each word of the query with its weight in BM25: how often it is asked for times its inverse document
-- frequency. A word's chunks are counted through the GIN index, which costs 0.3 ms per 1,000 of them: exact,
-- and no statistics to keep right. Filters and tombstones are not considered here: a score says how rare a
-- word is in the store, not in today's selection.
-- "reached" adds up the chunks from the rarest word on; a word is looked for as long as the sum stays under
-- the bound, so that a word of every second chunk weighs in on what the rarer ones found but finds nothing.
counted AS MATERIALIZED (
    SELECT word.lexeme, word.asked, quoted.term, found.chunks
    FROM (
        SELECT entry.lexeme, cardinality(entry.positions) AS asked
        FROM unnest(to_tsvector(%(language)s::regconfig, %(words)s)) AS entry
        ORDER BY asked DESC, entry.positions[1]
        LIMIT 64
    ) AS word
    CROSS JOIN LATERAL (
        SELECT '''' || replace(replace(word.lexeme, '\', '\\'), '''', '''''') || '''' AS term
    ) AS quoted
    CROSS JOIN LATERAL (
        SELECT count(*) AS chunks FROM docyard.chunks AS chunk WHERE chunk.lexemes @@ quoted.term::tsquery
    ) AS found
    WHERE found.chunks > 0
),
corpus AS MATERIALIZED (
    SELECT count(*) AS chunks, avg(chunk.length)::double precision AS mean_length FROM docyard.chunks AS chunk
),
term AS MATERIALIZED (
    SELECT counted.lexeme, counted.term, counted.chunks,
        counted.asked * ln(1 + (corpus.chunks - counted.chunks + 0.5) / (counted.chunks + 0.5)::double precision)
            AS weight,
        sum(counted.chunks) OVER (ORDER BY counted.chunks, counted.lexeme) AS reached
    FROM counted CROSS JOIN corpus
),
terms AS MATERIALIZED (
    SELECT array_agg(term.lexeme) AS lexemes, array_agg(term.weight) AS weights,
        string_agg(term.term, ' | ')::tsquery AS any_of, string_agg(term.term || ':A', ' | ')::tsquery AS in_title,
        string_agg(term.term, ' | ') FILTER (
            WHERE term.reached <= %(candidates)s OR term.reached = term.chunks
        )::tsquery AS sought
    FROM term
)

-- name: strict_branch
-- Every word of the query in one chunk, phrases as phrases; ts_rank_cd rewards words that stand together.
strict_chunk AS (
    SELECT candidate.id, candidate.document_id,
        ts_rank_cd(candidate.lexemes, question.strict)::double precision AS score
    FROM (
        SELECT chunk.id, chunk.document_id, chunk.lexemes
        FROM docyard.chunks AS chunk
        JOIN docyard.documents AS document ON document.id = chunk.document_id
        WHERE chunk.lexemes @@ (SELECT question.strict FROM question)
            AND document.deleted_at IS NULL AND document.current_version IS NOT NULL
            AND (document.expires_at IS NULL OR document.expires_at > docyard.clock())
            AND (%(collection)s::text IS NULL OR document.collection = %(collection)s)
            AND (%(kind)s::text IS NULL OR document.kind = %(kind)s)
        LIMIT %(candidates)s
    ) AS candidate
    CROSS JOIN question
),
strict_document AS (
    SELECT best.document_id, best.id, best.score,
        row_number() OVER (ORDER BY best.score DESC, best.document_id) AS rank
    FROM (
        SELECT DISTINCT ON (document_id) document_id, id, score
        FROM strict_chunk ORDER BY document_id, score DESC, id
    ) AS best
    ORDER BY rank
    LIMIT %(depth)s
)

-- name: bm25_branch
-- BM25 over any of the words: sum of weight * tf / (tf + k1 * (1 - b + b * length / mean length)), k1 = 1.2,
-- b = 0.75, as in Lucene. setweight() and ts_filter() cut a chunk's lexemes down to the query's before they
-- are unnested, three times as fast as unnesting all; no lexeme has weight C before. The title is cut out
-- first and put back, for its places count more.
bm25_chunk AS (
    SELECT candidate.id, candidate.document_id, scored.score
    FROM (
        SELECT chunk.id, chunk.document_id, chunk.lexemes, chunk.length
        FROM docyard.chunks AS chunk
        JOIN docyard.documents AS document ON document.id = chunk.document_id
        WHERE chunk.lexemes @@ (SELECT terms.sought && question.required FROM terms CROSS JOIN question)
            AND document.deleted_at IS NULL AND document.current_version IS NOT NULL
            AND (document.expires_at IS NULL OR document.expires_at > docyard.clock())
            AND (%(collection)s::text IS NULL OR document.collection = %(collection)s)
            AND (%(kind)s::text IS NULL OR document.kind = %(kind)s)
        LIMIT %(candidates)s
    ) AS candidate
    CROSS JOIN terms
    CROSS JOIN corpus
    CROSS JOIN LATERAL (
        SELECT sum(found.weight * found.tf / (found.tf + 1.2::double precision
            * (0.25::double precision + 0.75::double precision * candidate.length / corpus.mean_length))) AS score
        FROM (
            SELECT terms.weights[array_position(terms.lexemes, entry.lexeme)] AS weight,
                docyard.term_frequency(entry.weights)::double precision AS tf
            FROM unnest(CASE
                WHEN candidate.lexemes @@ terms.in_title THEN
                    setweight(ts_filter(setweight(ts_filter(candidate.lexemes, '{a}'), 'C', terms.lexemes), '{c}'), 'A')
                    || ts_filter(setweight(ts_filter(candidate.lexemes, '{b,d}'), 'C', terms.lexemes), '{c}')
                ELSE ts_filter(setweight(candidate.lexemes, 'C', terms.lexemes), '{c}')
            END) AS entry
            OFFSET 0
        ) AS found
    ) AS scored
),
bm25_document AS (
    SELECT best.document_id, best.id, best.score,
        row_number() OVER (ORDER BY best.score DESC, best.document_id) AS rank
    FROM (
        SELECT DISTINCT ON (document_id) document_id, id, score
        FROM bm25_chunk ORDER BY document_id, score DESC, id
    ) AS best
    ORDER BY rank
    LIMIT %(depth)s
)

-- name: vector_branch
-- Ordered by the operator itself on the indexed expression, the vector bound directly, LIMIT in the same
-- subquery: in any other shape the HNSW index is silently not used. Iterative scans may return rows slightly
-- out of order, so the ranks are computed outside.
vector_chunk AS (
    SELECT vector.chunk_id AS id, chunk.document_id,
        vector.embedding::pgvector.halfvec({dimension})
            OPERATOR(pgvector.<=>) %(vector)s::pgvector.halfvec({dimension}) AS distance
    FROM docyard.embeddings_{model} AS vector
    JOIN docyard.chunks AS chunk ON chunk.id = vector.chunk_id
    JOIN docyard.documents AS document ON document.id = chunk.document_id
    WHERE document.deleted_at IS NULL AND document.current_version IS NOT NULL
        AND (document.expires_at IS NULL OR document.expires_at > docyard.clock())
        AND (%(collection)s::text IS NULL OR document.collection = %(collection)s)
        AND (%(kind)s::text IS NULL OR document.kind = %(kind)s)
        AND (NOT %(restricted)s OR chunk.lexemes @@ (SELECT question.required FROM question))
    ORDER BY vector.embedding::pgvector.halfvec({dimension})
        OPERATOR(pgvector.<=>) %(vector)s::pgvector.halfvec({dimension})
    LIMIT %(nearest)s
),
vector_document AS (
    SELECT best.document_id, best.id, 1 - best.distance AS score,
        row_number() OVER (ORDER BY best.distance, best.document_id) AS rank
    FROM (
        SELECT DISTINCT ON (document_id) document_id, id, distance
        FROM vector_chunk ORDER BY document_id, distance, id
    ) AS best
    ORDER BY rank
    LIMIT %(depth)s
)
