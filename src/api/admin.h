/*-------------------------------------------------------------------------
 *
 * admin.h
 *		What making and altering a queue have in common.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_ADMIN_H
#define QUEUE_ADMIN_H

#include "nodes/parsenodes.h"
#include "utils/timestamp.h"

/* The settings that a queue is to have */
typedef struct QueueSettings
{
	Interval   *lease;
	Interval   *max_lease;
	int			max_attempts;
	Interval   *retry_delay;
	Interval   *retry_max_delay;
	Oid			dead_letter;	/* InvalidOid: none */
	bool		own_dead_letter;
} QueueSettings;

/* 22023 unless these are valid; the dead-letter queue is not looked at */
extern void queue_check_settings(const QueueSettings *settings);

/* The same of a row of queue.queue, by Anum_settings_xxx */
extern void queue_check_settings_row(const Datum *values);

/* May the caller make this the dead-letter queue of "source"? */
extern void queue_check_dead_letter(Oid dead_letter, Oid source);

/* DDL through SPI, as the caller, with a search_path of pg_catalog alone */
extern int	queue_ddl_begin(void);
extern void queue_ddl_run(const char *statement);
extern void queue_ddl_end(int guc_level);

#endif							/* QUEUE_ADMIN_H */
