/*-------------------------------------------------------------------------
 *
 * key_ddl.h
 *		Key tables made and dropped, and changed along with their queues.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_KEY_DDL_H
#define QUEUE_KEY_DDL_H

#include "nodes/parsenodes.h"
#include "utils/relcache.h"

/*
 * Make the key table of a queue.  If one with its name was restored, that may
 * be it; and messages that are there have keys
 */
extern Oid	queue_key_table_make(Oid relid, bool is_adopted);
extern void queue_key_table_drop(Oid keys);

/* May this table become the key table of a queue?  Then it is dropped with it */
extern bool queue_key_table_may_serve(Oid keys, Oid relid);
extern void queue_key_table_bind(Oid keys, Oid relid);

/* 42809 if the statement would change a key table by itself */
extern void queue_key_table_guard(Node *stmt);

/*
 * Queues with key tables that the statement is about to change: a list for the
 * other function, which lets their key tables follow when it has run
 */
extern List *queue_key_table_leaders(Node *stmt);
extern void queue_key_table_follow(Node *stmt, List *leaders);

#endif							/* QUEUE_KEY_DDL_H */
