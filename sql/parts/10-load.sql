
-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION queue UPDATE TO '0.4.0'" to load this file. \quit

-- What is parsed here finds no operator or function of whoever may create
-- objects in schema queue.
SET LOCAL search_path = pg_catalog, pg_temp;
