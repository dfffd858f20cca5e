/*-------------------------------------------------------------------------
 *
 * key_table.c
 *		The table in which a queue keeps its dedup keys: what it is like.
 *
 * A queue with a dedup_window has a second table, its key table, with one row
 * for each key that it remembers (dedup.c).  It is named in queue.queue, and
 * depends on the queue, so that it is dropped with it.  It is an ordinary table
 * for the same reasons as the queue itself: it is dumped, restored, replicated
 * and recovered with it, and a key exists exactly if the transaction of its
 * message has committed.
 *
 * It is read and written below the executor, by senders that have no privilege
 * on it, so the white list of queue tables holds for it, too (shape.c), and it
 * is shorter: no triggers at all, and no index that is unique.  It has one
 * plain b-tree on the key.  That is not unique, because a unique one would make
 * a sender wait for the transaction of another.  Keys are compared byte by
 * byte, whatever the collation of the database.
 *
 * Whether it is in order is found out when it is used, and kept in the queue's
 * definition; a change of this table invalidates that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "common/compat.h"
#include "common/relation.h"
#include "common/relation_name.h"
#include "table/key_table.h"
#include "table/shape.h"

typedef struct KeyColumn
{
	const char *name;
	Oid			type;
	Oid			collation;
} KeyColumn;

/* In order of Anum_key_xxx */
static const KeyColumn key_columns[Natts_key] = {
	{"id", INT8OID, InvalidOid},
	{"enqueued_at", TIMESTAMPTZOID, InvalidOid},
	{"dedup_key", TEXTOID, C_COLLATION_OID},
};

static char *columns_violation(TupleDesc desc);
static char *column_violation(TupleDesc desc, int i);
static char *index_violation(Relation keys, Oid *index);
static const char *index_problem(HeapTuple tuple, Oid index);
static bool is_btree(Oid index);
static bool is_key_index(HeapTuple tuple);


/* Return the columns, for CREATE TABLE. */
const char *
queue_key_table_columns(void)
{
	return "id pg_catalog.int8 NOT NULL, "
		"enqueued_at pg_catalog.timestamptz NOT NULL, "
		"dedup_key pg_catalog.text COLLATE pg_catalog.\"C\" NOT NULL";
}

/* Return the columns of the index, for CREATE INDEX. */
const char *
queue_key_table_index(void)
{
	return "dedup_key";
}

/* Return the columns of a row that say which message it is of. */
int64
queue_key_row_id(TupleTableSlot *slot)
{
	slot_getsomeattrs(slot, Anum_key_id);
	return DatumGetInt64(slot->tts_values[Anum_key_id - 1]);
}

TimestampTz
queue_key_row_enqueued_at(TupleTableSlot *slot)
{
	slot_getsomeattrs(slot, Anum_key_enqueued_at);
	return DatumGetTimestampTz(slot->tts_values[Anum_key_enqueued_at - 1]);
}

/* Returns true if the table has these columns, whatever else it has. */
bool
queue_key_table_resembles(Oid relid)
{
	for (int i = 0; i < Natts_key; i++)
	{
		if (get_attnum(relid, key_columns[i].name) != i + 1)
			return false;
	}
	return true;
}

/*
 * queue_key_table_open
 *		Open the key table of a queue, RowExclusiveLock.
 *
 * Returns NULL if the queue has none, or not any more.  Raises 42809 if it is
 * beyond the white list, or with altered_ok returns NULL as well.
 */
Relation
queue_key_table_open(QueueDef *def, bool altered_ok)
{
	Relation	keys;

	if (!OidIsValid(def->key_table))
		return NULL;
	keys = try_table_open(def->key_table, RowExclusiveLock);
	if (keys == NULL)
		return NULL;
	if (!OidIsValid(def->key_index))
	{
		char	   *problem = queue_key_table_violation(keys, &def->key_index);

		if (problem == NULL)
			return keys;
		def->key_index = InvalidOid;
		if (!altered_ok)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("table \"%s\" cannot be used for the keys of queue \"%s\"",
							queue_shown_name(def->key_table),
							queue_shown_name(def->relid)),
					 errdetail_internal("%s", problem),
					 errhint("Undo the change; or let the queue forget its keys, with dedup_window => '-1' of queue.alter_queue(), and give it a dedup_window again.")));
		table_close(keys, NoLock);
		return NULL;
	}
	return keys;
}

/*
 * queue_key_table_problem
 *		Return why a queue that has a dedup_window can take no message with a
 *		key, as a sentence.
 *
 * Returns NULL if it can, or if a lock is in the way of finding out.
 */
char *
queue_key_table_problem(QueueDef *def)
{
	Relation	keys;
	bool		is_locked = false;
	char	   *problem;
	Oid			index;

	if (def->dedup_window < 0)
		return NULL;
	keys = get_rel_relkind(def->key_table) != RELKIND_RELATION ? NULL :
		queue_open_unless_locked(def->key_table, AccessShareLock, &is_locked);
	if (keys == NULL)
		return is_locked ? NULL :
			pstrdup("The table of its keys is missing; alter_queue(), argument dedup_window, gives it a new one.");
	problem = queue_key_table_violation(keys, &index);
	if (problem != NULL)
		problem = psprintf("The table of its keys, %s, cannot be used: %s",
						   queue_qualified_name(def->key_table), problem);
	table_close(keys, AccessShareLock);
	return problem;
}

/*
 * queue_key_table_violation
 *		Return what the table has that none may have, or what it lacks.
 *
 * That is a sentence for an error's detail (palloc'd), or NULL.  The table is
 * open and locked.  *index is the index on the key.
 */
char *
queue_key_table_violation(Relation keys, Oid *index)
{
	char	   *problem = queue_shape_table_violation(keys);

	*index = InvalidOid;
	if (problem == NULL)
		problem = columns_violation(RelationGetDescr(keys));
	if (problem == NULL && keys->trigdesc != NULL)
		problem = psprintf("It has a trigger \"%s\".",
						   keys->trigdesc->triggers[0].tgname);
	if (problem == NULL)
		problem = index_violation(keys, index);
	if (problem == NULL)
		problem = queue_shape_constraint_violation(RelationGetRelid(keys));
	return problem;
}

/* The columns must be those of the list; dropped ones may follow. */
static char *
columns_violation(TupleDesc desc)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		char	   *problem;

		if (i >= Natts_key && att->attisdropped)
			continue;
		if (i >= Natts_key)
			return psprintf("Column \"%s\" does not belong to it.",
							NameStr(att->attname));
		problem = column_violation(desc, i);
		if (problem != NULL)
			return problem;
	}
	if (desc->natts < Natts_key)
		return psprintf("Column \"%s\" is missing.",
						key_columns[desc->natts].name);
	return NULL;
}

/* One of them */
static char *
column_violation(TupleDesc desc, int i)
{
	Form_pg_attribute att = TupleDescAttr(desc, i);
	const KeyColumn *column = &key_columns[i];

	if (att->attisdropped ||
		strcmp(NameStr(att->attname), column->name) != 0)
		return psprintf("Its column number %d is not \"%s\".", i + 1,
						column->name);
	if (att->atttypid != column->type || att->atttypmod != -1)
		return psprintf("Column \"%s\" is of type %s instead of %s.",
						column->name,
						format_type_with_typemod(att->atttypid,
												 att->atttypmod),
						format_type_be(column->type));
	if (att->attcollation != column->collation)
		return psprintf("Column \"%s\" has another collation than \"C\".",
						column->name);
	if (!att->attnotnull || queue_column_may_have_nulls(desc, i))
		return psprintf("Column \"%s\" is not marked NOT NULL.",
						column->name);
	if (att->attgenerated != '\0' || att->attidentity != '\0' ||
		att->atthasdef)
		return psprintf("Column \"%s\" has a default.", column->name);
	return NULL;
}

/*
 * The index on the key must be there.  Others must be such that no code of a
 * user runs when an entry is made, and that making it neither fails nor waits.
 */
static char *
index_violation(Relation keys, Oid *index)
{
	List	   *oids = RelationGetIndexList(keys);
	ListCell   *lc;

	foreach(lc, oids)
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID,
											ObjectIdGetDatum(lfirst_oid(lc)));
		const char *problem;

		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for index %u", lfirst_oid(lc));
		problem = index_problem(tuple, lfirst_oid(lc));
		if (problem == NULL && !OidIsValid(*index) &&
			is_key_index(tuple))
			*index = lfirst_oid(lc);
		ReleaseSysCache(tuple);
		if (problem != NULL)
			return psprintf(problem, get_rel_name(lfirst_oid(lc)));
	}
	list_free(oids);
	return OidIsValid(*index) ? NULL :
		pstrdup("The index on column \"dedup_key\" is missing.");
}

/* What is wrong with an index, with a place for its name; NULL: nothing */
static const char *
index_problem(HeapTuple tuple, Oid index)
{
	Form_pg_index form = (Form_pg_index) GETSTRUCT(tuple);
	oidvector  *opclasses;
	bool		isnull;

	if (!heap_attisnull(tuple, Anum_pg_index_indexprs, NULL))
		return "Its index \"%s\" has expressions.";
	if (!heap_attisnull(tuple, Anum_pg_index_indpred, NULL))
		return "Its index \"%s\" is partial.";
	if (form->indisexclusion)
		return "Its index \"%s\" enforces an exclusion constraint.";
	if (form->indisunique)
		return "Its index \"%s\" is unique.";
	if (!is_btree(index))
		return "Its index \"%s\" is no b-tree.";
	opclasses = (oidvector *)
		DatumGetPointer(SysCacheGetAttr(INDEXRELID, tuple,
										Anum_pg_index_indclass, &isnull));
	for (int i = 0; i < form->indnkeyatts; i++)
	{
		if (opclasses->values[i] >= FirstNormalObjectId)
			return "Its index \"%s\" uses an operator class that is not built in.";
	}
	return NULL;
}

/* Is this the one by which keys are found, in ascending order or not? */
static bool
is_key_index(HeapTuple tuple)
{
	Form_pg_index form = (Form_pg_index) GETSTRUCT(tuple);
	oidvector  *collations;
	bool		isnull;

	collations = (oidvector *)
		DatumGetPointer(SysCacheGetAttr(INDEXRELID, tuple,
										Anum_pg_index_indcollation, &isnull));
	return form->indisvalid && form->indisready && form->indnatts == 1 &&
		form->indkey.values[0] == Anum_key_dedup_key &&
		collations->values[0] == C_COLLATION_OID;
}

static bool
is_btree(Oid index)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(index));
	bool		result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", index);
	result = ((Form_pg_class) GETSTRUCT(tuple))->relam == BTREE_AM_OID;
	ReleaseSysCache(tuple);
	return result;
}
