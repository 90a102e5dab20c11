DROP TABLE usage_rollup;
DROP TABLE usage_writers;
DROP TABLE usage_days;
DROP TABLE usage_hours;
