/*-------------------------------------------------------------------------
 *
 * guard.h
 *		DDL that would make a queue something else.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_GUARD_H
#define QUEUE_GUARD_H

#include "nodes/nodes.h"

/* 42809 if the statement would take a queue beyond the white list */
extern void queue_guard_check(Node *stmt);

#endif							/* QUEUE_GUARD_H */
