/*-------------------------------------------------------------------------
 *
 * setting_row.h
 *		Tables of the extension that have one row a table: its settings.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SETTING_ROW_H
#define QUEUE_SETTING_ROW_H

#include "access/genam.h"
#include "access/htup.h"
#include "nodes/pg_list.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "table/form.h"
#include "table/member.h"

/* OID of this table, or InvalidOid */
extern Oid	queue_setting_relid(MemberTable table);

/* The table, opened; error if the extension is not here */
extern Relation queue_setting_open(MemberTable table, LOCKMODE lockmode);

/* The same, or NULL if the extension is not here */
extern Relation queue_setting_try_open(MemberTable table, LOCKMODE lockmode);

/* ... or if it has been altered: both */
extern Relation queue_setting_open_if_there(MemberTable table,
											LOCKMODE lockmode);

/* Is it the one that was found last?  For callbacks */
extern bool queue_setting_is_table(MemberTable table, Oid relid);

/* Scan for the row of one table, and the next one that a snapshot sees */
extern SysScanDesc queue_setting_scan(Relation settings, MemberTable table,
									  Oid relid);
extern HeapTuple queue_setting_next(SysScanDesc scan, Snapshot snapshot);

/* Has this relation a row, and which OID is in this column (unless NULL)? */
extern bool queue_setting_find(MemberTable table, Oid relid, int attnum,
							   Oid *named);

/* The tables whose rows have these keys, by an index if it is there */
extern List *queue_setting_list(MemberTable table, const char *index_name,
								int nkeys, ScanKey keys);

/* A copy of the row, locked for an update; NULL: none */
extern HeapTuple queue_setting_lock(Relation settings, MemberTable table,
									Oid relid);

/* What is this relation, by its settings?  NULL: nothing of ours */
extern const TableForm *queue_form_of(Oid relid);

#endif							/* QUEUE_SETTING_ROW_H */
