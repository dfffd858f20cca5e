/*-------------------------------------------------------------------------
 *
 * clear.h
 *		All that memory knows of a database, forgotten.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_CLEAR_H
#define QUEUE_CLEAR_H

extern void queue_clear_database(Oid dbid);

#endif							/* QUEUE_CLEAR_H */
