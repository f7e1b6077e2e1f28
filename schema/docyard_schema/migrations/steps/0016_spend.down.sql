DROP FUNCTION docyard.reserve_spend(text, text[], double precision[], numeric, numeric);
DROP FUNCTION docyard.reserve_budget(text, text[], double precision[]);
DROP VIEW docyard.spend;
DROP TABLE docyard.embedding_sweeps;
DROP TABLE docyard.spend_holds;
DROP TABLE docyard.spend_ceilings;
DROP TABLE docyard.spending;
