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

#endif							/* QUEUE_ADMIN_H */
