DROP TABLE instances;
DROP TABLE key_changes;
DROP TABLE revision_clock;
