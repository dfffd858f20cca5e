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

/* what the names of all branches begin with: see queue.branch() */
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

/*
 * For the ProcessUtility hook: before a COMMIT PREPARED or ROLLBACK PREPARED,
 * write down who does that to a branch; after any statement,
 * tell the resolver if it has prepared or finished a branch.
 */
extern void queue_branch_note_outcome(Node *stmt);
extern void queue_branch_expect(Node *stmt);

/*
 * Before a PREPARE TRANSACTION that the server is going to turn into a rollback,
 * or a warning, without an error: the SQLSTATE that it should have had, if a
 * branch or a queue is concerned, else 0.  After it: raise that.
 */
extern int	queue_branch_prepare_error(Node *stmt);
pg_noreturn extern void queue_branch_report_unprepared(Node *stmt,
													   int sqlstate);

/*
 * Before any other PREPARE TRANSACTION: that of a branch waits for standbys, and
 * leaves word of itself, which is there if and when it is committed.
 */
extern void queue_branch_before_prepare(Node *stmt);

/* The name of this installation, as queue.identity() tells */
extern char *queue_branch_identity(void);

#endif							/* QUEUE_BRANCH_H */
