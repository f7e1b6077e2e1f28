-- name: current
-- What ingest asks before it parses anything: are these bytes, through this pipeline, here already?
SELECT document.id, document.current_version, version.sha256, version.pipeline_version, document.title,
    document.deleted_at
FROM docyard.documents AS document
JOIN docyard.document_versions AS version
    ON version.document_id = document.id AND version.version = document.current_version
WHERE document.collection = %(collection)s AND document.source_uri = %(source_uri)s;

-- name: hold
-- Makes the document or takes its row lock, which lines up all writers of one document; the row as it was
-- before is read in the same breath. A tombstone that comes again is a document again.
WITH held AS (
    INSERT INTO docyard.documents AS document
        (id, kind, collection, source_uri, title, owner_id, visibility, tags, metadata, expires_at)
    VALUES (%(id)s, %(kind)s, %(collection)s, %(source_uri)s, %(title)s, %(owner_id)s, %(visibility)s,
        %(tags)s, %(metadata)s, %(expires_at)s)
    ON CONFLICT (collection, source_uri) DO UPDATE SET deleted_at = NULL,
        updated_at = CASE WHEN document.deleted_at IS NULL THEN document.updated_at ELSE docyard.clock() END
    RETURNING document.id, document.current_version, document.title
)
SELECT held.id, held.current_version, held.title, version.sha256, version.pipeline_version
FROM held
LEFT JOIN docyard.document_versions AS version
    ON version.document_id = held.id AND version.version = held.current_version;

-- name: processed
SELECT sha256, pipeline_version FROM docyard.document_versions
WHERE document_id = %(id)s AND version = %(version)s;

-- name: advance
-- The new version and the pointer to it in one statement. previous_version is what "hold" saw under its
-- lock; the chain's unique constraint stands behind it.
WITH added AS (
    INSERT INTO docyard.document_versions
        (document_id, version, previous_version, raw, contents, media_type, sha256, pipeline_version)
    VALUES (%(id)s, %(version)s, %(previous)s, %(raw)s, %(contents)s, %(media_type)s, %(sha256)s,
        %(pipeline_version)s)
)
UPDATE docyard.documents
SET current_version = %(version)s, kind = %(kind)s, title = %(title)s, tags = %(tags)s,
    metadata = %(metadata)s, expires_at = %(expires_at)s, updated_at = docyard.clock()
WHERE id = %(id)s;

-- name: amend
-- The same bytes under another title or with other tags: no version, and no write where nothing differs.
UPDATE docyard.documents
SET kind = %(kind)s, title = %(title)s, tags = %(tags)s, metadata = %(metadata)s,
    expires_at = %(expires_at)s, updated_at = docyard.clock()
WHERE id = %(id)s AND (kind, title, tags, metadata, expires_at) IS DISTINCT FROM
    (%(kind)s::text, %(title)s::text, %(tags)s::text[], %(metadata)s::jsonb, %(expires_at)s::timestamptz);

-- name: get
SELECT id, kind, collection, source_uri, title, current_version, owner_id, visibility, shared_with_groups,
    tags, metadata, created_at, updated_at, accessed_at, expires_at, deleted_at
FROM docyard.documents
WHERE id = %(id)s AND deleted_at IS NULL AND current_version IS NOT NULL;

-- name: find
SELECT id, kind, collection, source_uri, title, current_version, owner_id, visibility, shared_with_groups,
    tags, metadata, created_at, updated_at, accessed_at, expires_at, deleted_at
FROM docyard.documents
WHERE collection = %(collection)s AND source_uri = %(source_uri)s AND deleted_at IS NULL
    AND current_version IS NOT NULL;

-- name: list_documents
-- Newest first; the id breaks ties, so pages never overlap.
SELECT id, kind, collection, source_uri, title, current_version, owner_id, visibility, shared_with_groups,
    tags, metadata, created_at, updated_at, accessed_at, expires_at, deleted_at
FROM docyard.documents
WHERE deleted_at IS NULL AND current_version IS NOT NULL
    AND (%(kind)s::text IS NULL OR kind = %(kind)s)
    AND (%(collection)s::text IS NULL OR collection = %(collection)s)
ORDER BY created_at DESC, id DESC
LIMIT %(limit)s OFFSET %(offset)s;

-- name: get_version
SELECT version.document_id, version.version, version.previous_version, version.raw, version.contents,
    version.media_type, version.blob_uri, version.sha256, version.signature, version.pipeline_version,
    version.created_at
FROM docyard.documents AS document
JOIN docyard.document_versions AS version ON version.document_id = document.id
WHERE document.id = %(id)s AND document.deleted_at IS NULL
    AND version.version = coalesce(%(version)s, document.current_version);

-- name: list_versions
-- Along the chain, oldest first: created_at lies after an import and stands still within a transaction.
WITH RECURSIVE chain AS (
    SELECT version.document_id, version.version, 0 AS position
    FROM docyard.document_versions AS version
    WHERE version.document_id = %(id)s AND version.previous_version IS NULL
    UNION ALL
    SELECT following.document_id, following.version, chain.position + 1
    FROM chain
    JOIN docyard.document_versions AS following
        ON following.document_id = chain.document_id AND following.previous_version = chain.version
)
SELECT version.document_id, version.version, version.previous_version, version.raw, version.contents,
    version.media_type, version.blob_uri, version.sha256, version.signature, version.pipeline_version,
    version.created_at
FROM chain
JOIN docyard.document_versions AS version
    ON version.document_id = chain.document_id AND version.version = chain.version
ORDER BY chain.position;

-- name: remove
UPDATE docyard.documents SET deleted_at = docyard.clock(), updated_at = docyard.clock()
WHERE id = %(id)s AND deleted_at IS NULL AND current_version IS NOT NULL
RETURNING id, kind, collection, source_uri, title, current_version, owner_id, visibility, shared_with_groups,
    tags, metadata, created_at, updated_at, accessed_at, expires_at, deleted_at;

-- name: restore
UPDATE docyard.documents SET deleted_at = NULL, updated_at = docyard.clock()
WHERE id = %(id)s AND deleted_at IS NOT NULL
RETURNING id, kind, collection, source_uri, title, current_version, owner_id, visibility, shared_with_groups,
    tags, metadata, created_at, updated_at, accessed_at, expires_at, deleted_at;

-- name: count_by_kind
SELECT kind, count(*) FROM docyard.documents
WHERE deleted_at IS NULL AND current_version IS NOT NULL
    AND (%(collection)s::text IS NULL OR collection = %(collection)s)
GROUP BY kind ORDER BY kind;
