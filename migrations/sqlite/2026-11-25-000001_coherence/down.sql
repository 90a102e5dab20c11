-- One process serves an embedded database, so caches need no coordination.
SELECT 1;
