-- One process serves an embedded database, and agrees with itself without tables.
SELECT 1;
