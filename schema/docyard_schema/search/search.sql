-- name: prepare_search
-- Before a search, in its transaction: settings for that alone, and whether the model is as the caller knows
-- it (NULL: no vectors are wanted). Naming the embeddings locks them until the transaction ends: the model cannot be
-- dropped between this statement and the search, which would find nothing then. The cast to vector comes first, when the statement is parsed: it loads
-- pgvector's library, before which its settings are unknown to the session.
-- An HNSW index gives at most ef_search rows and fewer under a filter, unless it scans on (FAULTS). A custom
-- plan each time costs 1 ms and sees which filters are absent; compiling costs more than it saves here.
-- literal: model = 1
-- literal: dimension = 256
SELECT pgvector.vector_dims('[1]'::pgvector.vector), %(language)s::regconfig,
    (SELECT model.dimension = {dimension} AND to_regclass('docyard.embeddings_{model}') IS NOT NULL
            AND NOT EXISTS (SELECT FROM docyard.embeddings WHERE false)
        FROM docyard.embedding_models AS model WHERE model.id = {model}),
    ARRAY[current_setting('hnsw.ef_search'), current_setting('hnsw.iterative_scan'),
        current_setting('hnsw.max_scan_tuples'), current_setting('plan_cache_mode'), current_setting('jit'),
        current_setting('client_min_messages')] AS before,
    set_config('hnsw.ef_search', least(%(depth)s::integer, 1000)::text, true),
    set_config('hnsw.iterative_scan', 'relaxed_order', true),
    set_config('hnsw.max_scan_tuples', greatest(20000, 20 * %(depth)s::integer)::text, true),
    set_config('plan_cache_mode', 'force_custom_plan', true),
    set_config('jit', 'off', true),
    set_config('client_min_messages', 'warning', true);

-- name: restore_settings
-- For a caller's transaction, which goes on after the search. Not by undoing a savepoint: psycopg then drops
-- all that it has prepared.
SELECT set_config('hnsw.ef_search', (%(before)s::text[])[1], true),
    set_config('hnsw.iterative_scan', (%(before)s::text[])[2], true),
    set_config('hnsw.max_scan_tuples', (%(before)s::text[])[3], true),
    set_config('plan_cache_mode', (%(before)s::text[])[4], true),
    set_config('jit', (%(before)s::text[])[5], true),
    set_config('client_min_messages', (%(before)s::text[])[6], true);

-- name: search
-- One statement for all modes: an unwanted branch is constantly false, and the planner drops it. Each branch
-- ranks chunks, keeps the best of each document and ranks those (equals share a rank, or the order of their ids
-- would outweigh another branch); documents are fused by reciprocal rank.
-- Why these three, with figures: docs/design/search.md.
-- Phrases and exclusions hold in every branch. They are written out in each instead of once in a WITH, as are
-- the filters: so the planner sees their values, estimates how much they leave, and takes the HNSW index or not.
-- literal: model = 1
-- literal: dimension = 256
WITH counted AS MATERIALIZED (
    -- How many chunks have each word, counted through the GIN index: 0.3 ms per 1,000 of them, exact, and no
    -- statistics to keep right. Tombstones and filters do not matter here: a score says how rare a word is in
    -- the store, not in today's selection. Quoted by hand, for a lexeme may hold any character.
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
    -- An index-only scan of chunks_length_idx, 1.5 ms for 30,000 chunks; reading the table takes ten times that.
    SELECT count(*) AS chunks, avg(chunk.length)::double precision AS mean_length FROM docyard.chunks AS chunk
    WHERE %(textual)s::boolean
),
term AS MATERIALIZED (
    -- "reached" adds up chunks from the rarest word on. It bounds what BM25 looks at: a word beyond the bound
    -- weighs in on what rarer words found, but finds nothing itself.
    SELECT counted.lexeme, counted.term, counted.chunks,
        counted.asked * ln(1 + (corpus.chunks - counted.chunks + 0.5) / (counted.chunks + 0.5)::double precision)
            AS weight,
        sum(counted.chunks) OVER (ORDER BY counted.chunks, counted.lexeme) AS reached
    FROM counted CROSS JOIN corpus
),
terms AS MATERIALIZED (
    SELECT array_agg(term.lexeme) AS lexemes, array_agg(term.weight) AS weights,
        string_agg(term.term || ':A', ' | ')::tsquery AS in_title,
        string_agg(term.term, ' | ') FILTER (WHERE term.reached <= %(reach)s OR term.reached = term.chunks)::tsquery
            AS sought
    FROM term
),
strict_chunk AS (
    -- Every word in one chunk, phrases as phrases; ts_rank_cd rewards words that stand close together.
    SELECT candidate.id, candidate.document_id,
        ts_rank_cd(candidate.lexemes, websearch_to_tsquery(%(language)s::regconfig, %(strict)s))::double precision
            AS score
    FROM (
        SELECT chunk.id, chunk.document_id, chunk.lexemes
        FROM docyard.chunks AS chunk
        JOIN docyard.documents AS document ON document.id = chunk.document_id
        -- Stop words alone leave an empty query, and exclusions would then find nearly all there is.
        WHERE %(textual)s::boolean AND numnode(websearch_to_tsquery(%(language)s::regconfig, %(strict)s)) > 0
            AND chunk.lexemes @@ (websearch_to_tsquery(%(language)s::regconfig, %(strict)s)
                && websearch_to_tsquery(%(language)s::regconfig, %(phrases)s)
                && websearch_to_tsquery(%(language)s::regconfig, %(exclusions)s))
            AND document.deleted_at IS NULL AND document.current_version IS NOT NULL
            AND (document.expires_at IS NULL OR document.expires_at > docyard.clock())
            AND (%(collection)s::text IS NULL OR document.collection = %(collection)s)
            AND (%(kind)s::text IS NULL OR document.kind = %(kind)s)
        LIMIT %(candidates)s
    ) AS candidate
),
strict_document AS (
    SELECT best.document_id, best.id, best.score,
        rank() OVER (ORDER BY best.score DESC) AS rank
    FROM (
        SELECT DISTINCT ON (document_id) document_id, id, score
        FROM strict_chunk ORDER BY document_id, score DESC, id
    ) AS best
    ORDER BY rank, best.document_id
    LIMIT %(depth)s
),
bm25_chunk AS (
    -- BM25 over any of the words, as Lucene has it: the sum of weight * tf / (tf + k1 * (1 - b + b * length /
    -- mean length)), k1 = 1.2, b = 0.75. setweight() and ts_filter() cut a chunk's lexemes down to the query's
    -- before they are unnested, three times as fast as unnesting all; no lexeme has weight C of its own. Where
    -- a word stands in the title that part is cut out by itself and keeps its A, which counts more.
    SELECT candidate.id, candidate.document_id, scored.score
    FROM (
        SELECT chunk.id, chunk.document_id, chunk.lexemes, chunk.length
        FROM docyard.chunks AS chunk
        JOIN docyard.documents AS document ON document.id = chunk.document_id
        WHERE %(textual)s::boolean
            AND chunk.lexemes @@ ((SELECT terms.sought FROM terms)
                && websearch_to_tsquery(%(language)s::regconfig, %(phrases)s)
                && websearch_to_tsquery(%(language)s::regconfig, %(exclusions)s))
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
                    setweight(ts_filter(setweight(ts_filter(candidate.lexemes, ARRAY['a'::"char"]), 'C',
                        terms.lexemes), ARRAY['c'::"char"]), 'A')
                    || ts_filter(setweight(ts_filter(candidate.lexemes, ARRAY['b'::"char", 'd'::"char"]), 'C',
                        terms.lexemes), ARRAY['c'::"char"])
                ELSE ts_filter(setweight(candidate.lexemes, 'C', terms.lexemes), ARRAY['c'::"char"])
            END) AS entry
            -- Keeps tf from being computed twice for its two uses.
            OFFSET 0
        ) AS found
    ) AS scored
),
bm25_document AS (
    SELECT best.document_id, best.id, best.score,
        rank() OVER (ORDER BY best.score DESC) AS rank
    FROM (
        SELECT DISTINCT ON (document_id) document_id, id, score
        FROM bm25_chunk ORDER BY document_id, score DESC, id
    ) AS best
    ORDER BY rank, best.document_id
    LIMIT %(depth)s
),
vector_chunk AS (
    -- Ordered by the operator itself on the indexed expression, the vector bound directly, the LIMIT in the
    -- same subquery: in any other shape the HNSW index is silently not used. The model is a literal so that
    -- the planner sees one partition. An iterative scan may give rows slightly out of order, so ranks are
    -- computed outside. No comparison of content hashes: a chunk's text never changes, only its ordinal, and
    -- a second join condition makes the planner expect two rows.
    SELECT vector.chunk_id AS id, chunk.document_id,
        vector.embedding::pgvector.halfvec({dimension})
            OPERATOR(pgvector.<=>) %(vector)s::pgvector.halfvec({dimension}) AS distance
    FROM docyard.embeddings AS vector
    JOIN docyard.chunks AS chunk ON chunk.id = vector.chunk_id
    JOIN docyard.documents AS document ON document.id = chunk.document_id
    WHERE %(vectorial)s::boolean AND vector.model_id = {model}
        AND document.deleted_at IS NULL AND document.current_version IS NOT NULL
        AND (document.expires_at IS NULL OR document.expires_at > docyard.clock())
        AND (%(collection)s::text IS NULL OR document.collection = %(collection)s)
        AND (%(kind)s::text IS NULL OR document.kind = %(kind)s)
        AND (NOT %(restricted)s::boolean OR chunk.lexemes @@ (websearch_to_tsquery(%(language)s::regconfig, %(phrases)s)
            && websearch_to_tsquery(%(language)s::regconfig, %(exclusions)s)))
    ORDER BY vector.embedding::pgvector.halfvec({dimension})
        OPERATOR(pgvector.<=>) %(vector)s::pgvector.halfvec({dimension})
    LIMIT %(depth)s
),
vector_document AS (
    SELECT best.document_id, best.id, 1 - best.distance AS score,
        rank() OVER (ORDER BY best.distance) AS rank
    FROM (
        SELECT DISTINCT ON (document_id) document_id, id, distance
        FROM vector_chunk ORDER BY document_id, distance, id
    ) AS best
),
fused AS (
    -- The id breaks ties, so that pages never overlap. The passage that is shown comes from the branch that
    -- ranks the document best.
    SELECT ranked.document_id, sum(1 / (60 + ranked.rank)::double precision) AS score,
        sum(1 / (60 + ranked.rank)::double precision) FILTER (WHERE ranked.branch <> 3) AS text_score,
        sum(1 / (60 + ranked.rank)::double precision) FILTER (WHERE ranked.branch = 3) AS vector_score,
        max(ranked.score) FILTER (WHERE ranked.branch = 1) AS bm25,
        max(ranked.score) FILTER (WHERE ranked.branch = 3) AS similarity,
        (array_agg(ranked.id ORDER BY ranked.rank, ranked.branch))[1] AS chunk_id
    FROM (
        SELECT 1 AS branch, document_id, id, score, rank FROM bm25_document
        UNION ALL SELECT 2, document_id, id, score, rank FROM strict_document
        UNION ALL SELECT 3, document_id, id, score, rank FROM vector_document
    ) AS ranked
    GROUP BY ranked.document_id
    ORDER BY score DESC, ranked.document_id
    LIMIT %(limit)s OFFSET %(offset)s
)
-- ts_headline parses text anew, so it comes after the LIMIT, and sees no more than a chunk should have.
SELECT fused.document_id, document.source_uri, document.title, document.kind, document.collection,
    fused.chunk_id, chunk.heading_path, fused.score, fused.text_score, fused.vector_score, fused.bm25,
    fused.similarity,
    ts_headline(chunk.language::regconfig, translate(left(chunk.text, 20000), %(marks)s, ''),
        websearch_to_tsquery(%(language)s::regconfig, %(highlight)s), %(headline)s) AS marked
FROM fused
JOIN docyard.documents AS document ON document.id = fused.document_id
JOIN docyard.chunks AS chunk ON chunk.id = fused.chunk_id
ORDER BY fused.score DESC, fused.document_id;
