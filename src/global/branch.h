/*-------------------------------------------------------------------------
 *
 * branch.h
 *		Branches of global transactions, as sessions prepare and finish them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_BRANCH_H
#define QUEUE_BRANCH_H

#include "nodes/parsenodes.h"

#include "common/compat.h"

/* What the names of all branches begin with: see queue.branch() */
#define QUEUE_BRANCH_PREFIX	"queue:"

#define DECIDING_DATABASE	"deciding_database"

#define Natts_deciding				9
#define Anum_deciding_name			1
#define Anum_deciding_participant	2
#define Anum_deciding_coordinator	3
#define Anum_deciding_owner			4
#define Anum_deciding_connection	5
#define Anum_deciding_password_required	6
#define Anum_deciding_registered_in	7
#define Anum_deciding_identity		8
#define Anum_deciding_last_error	9

/* Hook, before a branch is finished: write down how, and by which role */
extern void queue_branch_note_outcome(Node *stmt);

/* Hook, after a statement: wake the resolver if it concerned a branch */
extern void queue_branch_wake_resolver(Node *stmt);

/*
 * The SQLSTATE that a PREPARE TRANSACTION should fail with though the server
 * raises no error, or 0; and after the statement: raise that
 */
extern int	queue_branch_prepare_error(Node *stmt);
pg_noreturn extern void queue_branch_report_unprepared(Node *stmt,
													   int sqlstate);

/* Hook, before any other PREPARE TRANSACTION: that of a branch is durable */
extern void queue_branch_before_prepare(Node *stmt);

/* The name of this installation, as queue.identity() tells */
extern char *queue_branch_identity(void);

#endif							/* QUEUE_BRANCH_H */
