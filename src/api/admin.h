/*-------------------------------------------------------------------------
 *
 * admin.h
 *		What making and altering a queue have in common.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_ADMIN_H
#define QUEUE_ADMIN_H

/* May the caller make this the dead-letter queue of "source"? */
extern void queue_check_dead_letter(Oid dead_letter, Oid source);

/* DDL through SPI, as the caller, with a search_path of pg_catalog alone */
extern int	queue_ddl_begin(void);
extern void queue_ddl_run(const char *statement);
extern void queue_ddl_end(int guc_level);

#endif							/* QUEUE_ADMIN_H */
