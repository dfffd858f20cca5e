/*-------------------------------------------------------------------------
 *
 * statement.h
 *		Statements of DDL that functions run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_STATEMENT_H
#define QUEUE_STATEMENT_H

/* DDL through SPI, as the caller, with a search_path of pg_catalog alone */
extern int	queue_ddl_begin(void);
extern void queue_ddl_run(const char *statement);
extern void queue_ddl_end(int guc_level);

/* Revoke what default privileges have granted on a new TABLE, or SEQUENCE */
extern void queue_ddl_revoke_defaults(Oid relid, const char *object);

/*
 * Autovacuum is the safety net under the vacuum of queues (vacuum.c).  So it
 * is to come only when that does not, and then for about as many dead rows as
 * that would wait for, not for a fifth of all.  When it comes it keeps the
 * other out while rows die at full speed, so it is to be quick.  It also
 * leaves making the file smaller to the other, because it would try that for
 * five seconds.
 */
#define QUEUE_STORAGE_PARAMETERS \
	"autovacuum_vacuum_scale_factor = 0.1, " \
	"autovacuum_vacuum_threshold = 50000, " \
	"autovacuum_vacuum_cost_delay = 0, " \
	"vacuum_truncate = false, " \
	"toast.autovacuum_vacuum_scale_factor = 0.1, " \
	"toast.autovacuum_vacuum_threshold = 50000, " \
	"toast.autovacuum_vacuum_cost_delay = 0, " \
	"toast.vacuum_truncate = false"

#endif							/* QUEUE_STATEMENT_H */
