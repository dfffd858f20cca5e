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

/* A queue's settings, as they are to be */
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

/* 22023 unless these are within their limits; dead_letter is not looked at */
extern void queue_check_settings(const QueueSettings *settings);

/* The same of a row of queue.queue, by Anum_settings_xxx */
extern void queue_check_settings_row(const Datum *values);

/*
 * May the caller make this the dead-letter queue of "source" (InvalidOid: of a
 * queue yet to be made)?  Locks it to the end of the transaction, so that it
 * is still there when the settings that name it are committed.
 */
extern void queue_check_dead_letter(Oid dead_letter, Oid source);

/*
 * Statements through SPI, between begin and end: as the caller, with a
 * search_path that holds nothing of anybody's.  An error ends both the SPI
 * connection and the setting by ending the (sub)transaction.
 */
extern int	queue_ddl_begin(void);
extern void queue_ddl_run(const char *statement);
extern void queue_ddl_end(int guc_level);

#endif							/* QUEUE_ADMIN_H */
