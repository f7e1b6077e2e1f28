-- name: missing_roles
SELECT wanted.name FROM unnest(%(roles)s::text[]) WITH ORDINALITY AS wanted (name, position)
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS role WHERE role.rolname = wanted.name)
ORDER BY wanted.position;

-- name: one_at_a_time
-- The number is no other lock's; it means "docyard grants roles", in this database.
SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('docyard grants roles'));

-- name: owners
-- Who grants must be the owner: of anybody else with some right GRANT says a mere warning, and does nothing.
SELECT pg_catalog.pg_get_userbyid(owned.owner), pg_catalog.pg_has_role(owned.owner, 'USAGE')
FROM pg_catalog.pg_class AS ledger
JOIN pg_catalog.pg_namespace AS n ON n.oid = ledger.relnamespace
CROSS JOIN LATERAL (VALUES (n.nspowner), (ledger.relowner)) AS owned (owner)
WHERE n.nspname = %(schema)s AND ledger.relname = 'schema_migrations'
ORDER BY 2;

-- name: objects
-- Every object of docyard's owner, but not those of an extension (pgvector may live here too). A function
-- that a view calls is called with the rights of whoever reads the view, and what it calls in turn as well.
WITH RECURSIVE home AS (
    SELECT c.relnamespace AS oid, c.relowner AS owner
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = 'schema_migrations'
), relation AS (
    SELECT c.oid, c.relname, CASE c.relkind WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' ELSE 'table' END AS sort
    FROM pg_class AS c JOIN home ON home.oid = c.relnamespace AND home.owner = c.relowner
    WHERE c.relkind IN ('r', 'p', 'v', 'S')
), viewed (oid) AS (
    SELECT d.refobjid
    FROM relation AS r
    JOIN pg_rewrite AS w ON w.ev_class = r.oid AND r.sort = 'view'
    JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
    WHERE d.refclassid = 'pg_proc'::regclass
    UNION
    SELECT d.refobjid
    FROM viewed JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = viewed.oid
    WHERE d.refclassid = 'pg_proc'::regclass
)
SELECT sort, format('%%I.%%I', %(schema)s::text, relname) AS name FROM relation
UNION ALL
SELECT CASE WHEN p.proname = 'enqueue' THEN 'enqueue'
        WHEN p.proname IN ('limit_name', 'budget_left') THEN 'limits' WHEN p.oid IN (SELECT oid FROM viewed) THEN 'viewed'
        ELSE 'function' END,
    p.oid::regprocedure::text
FROM pg_proc AS p JOIN home ON home.oid = p.pronamespace AND home.owner = p.proowner
WHERE NOT EXISTS (
    SELECT FROM pg_depend AS d
    WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
)
ORDER BY 1, 2;
