-- name: snapshot
-- One row per object, from the catalogue alone. The ledger is the runner's and not a step's.
WITH relation AS (
    SELECT c.oid, c.relname, c.relkind
    FROM pg_class AS c
    WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s::text))
        AND NOT c.relispartition AND c.relname NOT LIKE 'schema\_migrations%%'
)
SELECT format('column %%s.%%s', r.relname, a.attname) AS name,
    concat_ws(' ', format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'not null' END,
        pg_get_expr(d.adbin, d.adrelid), nullif(a.attidentity::text, ''), nullif(a.attgenerated::text, ''),
        nullif(a.attcompression::text, '')) AS definition
FROM relation AS r
JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef AS d ON d.adrelid = r.oid AND d.adnum = a.attnum
WHERE r.relkind IN ('r', 'p', 'v', 'm', 'c')
UNION ALL
SELECT format('table %%s', r.relname),
    (SELECT concat_ws(' ', CASE c.relpersistence WHEN 'u' THEN 'unlogged' END,
        CASE WHEN c.relrowsecurity THEN 'row security' END, c.reloptions::text)
     FROM pg_class AS c WHERE c.oid = r.oid)
FROM relation AS r WHERE r.relkind IN ('r', 'p')
UNION ALL
-- NOT NULL is told with the column; from 18 on it is a constraint too.
SELECT format('constraint %%s.%%s', r.relname, k.conname), pg_get_constraintdef(k.oid)
FROM relation AS r JOIN pg_constraint AS k ON k.conrelid = r.oid AND k.contype <> 'n' AND k.conparentid = 0
UNION ALL
SELECT format('index %%s', c.relname),
    pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid THEN '' ELSE ' (invalid)' END
FROM relation AS r JOIN pg_index AS i ON i.indrelid = r.oid JOIN pg_class AS c ON c.oid = i.indexrelid
UNION ALL
SELECT format('trigger %%s.%%s', r.relname, t.tgname),
    pg_get_triggerdef(t.oid) || CASE t.tgenabled WHEN 'D' THEN ' (disabled)' ELSE '' END
FROM relation AS r JOIN pg_trigger AS t ON t.tgrelid = r.oid AND NOT t.tgisinternal
UNION ALL
SELECT format('view %%s', r.relname), pg_get_viewdef(r.oid)
FROM relation AS r WHERE r.relkind IN ('v', 'm')
UNION ALL
SELECT format('sequence %%s', r.relname), format_type(s.seqtypid, NULL)
FROM relation AS r JOIN pg_sequence AS s ON s.seqrelid = r.oid
UNION ALL
SELECT format('function %%s', p.oid::regprocedure::text), pg_get_functiondef(p.oid)
FROM pg_proc AS p
WHERE p.pronamespace = to_regnamespace(quote_ident(%(schema)s::text)) AND p.prokind IN ('f', 'p')
    AND NOT EXISTS (
        SELECT FROM pg_depend AS d
        WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    )
UNION ALL
SELECT format('type %%s', t.typname), string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder)
FROM pg_type AS t JOIN pg_enum AS e ON e.enumtypid = t.oid
WHERE t.typnamespace = to_regnamespace(quote_ident(%(schema)s::text))
GROUP BY t.typname;
