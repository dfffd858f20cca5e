/*-------------------------------------------------------------------------
 *
 * index.c
 *		The indexes of a queue table: what they may be, and which are its own.
 *
 * Beside its primary key a queue has four indexes of its own, each over the
 * messages that have a due time, an end, a group or a correlation_id.  A message without any of
 * these has no entry there, and whoever sends or takes it does not even open
 * them (entries.c).  They are known by what they are, whatever their names, so
 * that a dump, REINDEX or a copy of the table may name them anew.  A second one
 * of the same kind is harmless: REINDEX CONCURRENTLY has one in passing.
 *
 * No index is opened here; see shape.c, which says what locks are held.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_index.h"
#include "commands/defrem.h"
#include "lib/stringinfo.h"
#include "nodes/primnodes.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "table/column.h"
#include "table/index.h"

/* In order of OwnIndex */
const OwnIndexForm queue_own_indexes[NUM_OWN_INDEXES] = {
	{3, {Anum_message_priority, Anum_message_visible_at, Anum_message_id},
	Anum_message_visible_at},
	{1, {Anum_message_expires_at}, Anum_message_expires_at},
	{2, {Anum_message_group_key, Anum_message_id}, Anum_message_group_key},
	{2, {Anum_message_correlation_id, Anum_message_id},
	Anum_message_correlation_id},
};

static int	own_index(HeapTuple index_tuple, Oid access_method);
static bool has_own_columns(HeapTuple index_tuple, const OwnIndexForm *form);
static AttrNumber wanted_column(HeapTuple index_tuple);
static bool has_pkey_columns(Form_pg_index index, Oid access_method);
static bool has_user_opclass(HeapTuple index_tuple);
static bool is_left_by_reindex(const char *name);
static bool is_column(Node *expr, AttrNumber attnum);


/*
 * queue_index_violation
 *		Return what an index of the table has that none of a queue may have.
 *
 * That is a sentence for an error's detail (palloc'd), or NULL.  *indexes
 * tells which of its own were found; a table without primary key is a
 * violation, one without another of them is not.
 *
 * The primary key must be that of a queue.  Other indexes must be such that no
 * code of a user runs when an entry is made, and that making it cannot fail.
 */
char *
queue_index_violation(Relation rel, QueueIndexes *indexes)
{
	List	   *oids = RelationGetIndexList(rel);
	ListCell   *lc;

	foreach(lc, oids)
	{
		Oid			index_oid = lfirst_oid(lc);
		char	   *name = get_rel_name(index_oid);
		HeapTuple	class_tuple;
		HeapTuple	tuple;
		Form_pg_index index;
		Oid			access_method;
		const char *problem = NULL;

		class_tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(index_oid));
		if (!HeapTupleIsValid(class_tuple))
			elog(ERROR, "cache lookup failed for relation %u", index_oid);
		access_method = ((Form_pg_class) GETSTRUCT(class_tuple))->relam;
		ReleaseSysCache(class_tuple);

		tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index_oid));
		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for index %u", index_oid);
		index = (Form_pg_index) GETSTRUCT(tuple);

		if (!heap_attisnull(tuple, Anum_pg_index_indexprs, NULL))
			problem = "Its index \"%s\" has expressions.";
		else if (!heap_attisnull(tuple, Anum_pg_index_indpred, NULL))
		{
			int			which = own_index(tuple, access_method);

			if (which < 0)
				problem = "Its index \"%s\" is partial.";
			else if (index->indisvalid && index->indisready &&
					 !OidIsValid(indexes->own[which]) &&
					 !is_left_by_reindex(name))
				indexes->own[which] = index_oid;
		}
		else if (index->indisexclusion)
			problem = "Its index \"%s\" enforces an exclusion constraint.";
		else if (has_user_opclass(tuple))
			problem = "Its index \"%s\" uses an operator class that is not built in.";
		else if (index->indisprimary)
		{
			indexes->pkey = index_oid;
			if (!index->indimmediate)
				problem = "Its primary key \"%s\" is deferrable.";
			else if (!index->indisvalid || !has_pkey_columns(index, access_method))
				problem = "Its primary key \"%s\" is not on (priority, id) alone.";
		}
		else if (index->indisunique &&
				 (!has_pkey_columns(index, access_method) ||
				  (index->indisvalid && !is_left_by_reindex(name))))
			problem = "Its index \"%s\" is unique.";

		ReleaseSysCache(tuple);
		if (problem != NULL)
			return psprintf(problem, name);
	}
	list_free(oids);

	if (!OidIsValid(indexes->pkey))
	{
		indexes->lacks_pkey_only = true;
		return pstrdup("It has no primary key.");
	}

	return NULL;
}

/*
 * Beside the primary key itself, REINDEX CONCURRENTLY has a twin of it for a
 * while, which is unique and not valid, and must not stop the traffic.
 */
static bool
has_pkey_columns(Form_pg_index index, Oid access_method)
{
	return access_method == BTREE_AM_OID &&
		index->indnatts == 2 &&
		index->indnkeyatts == 2 &&
		index->indkey.values[0] == Anum_message_priority &&
		index->indkey.values[1] == Anum_message_id;
}

/*
 * Operator classes that come with the server run no code of a user.
 */
static bool
has_user_opclass(HeapTuple index_tuple)
{
	Form_pg_index index = (Form_pg_index) GETSTRUCT(index_tuple);
	Datum		datum;
	bool		isnull;
	oidvector  *opclasses;

	datum = SysCacheGetAttr(INDEXRELID, index_tuple, Anum_pg_index_indclass,
							&isnull);
	Assert(!isnull);
	opclasses = (oidvector *) DatumGetPointer(datum);

	for (int i = 0; i < index->indnkeyatts; i++)
	{
		if (opclasses->values[i] >= FirstNormalObjectId)
			return true;
	}
	return false;
}

/*
 * Is this the name of an index that REINDEX CONCURRENTLY makes in passing?  If
 * it is interrupted, an invalid copy of the primary key stays behind, and a
 * command that rebuilds all indexes of the table (REINDEX, VACUUM FULL) makes
 * it valid.  It does no harm, so the queue must not be lost because of it.
 */
static bool
is_left_by_reindex(const char *name)
{
	const char *suffix = strrchr(name, '_');

	if (suffix == NULL || (strncmp(suffix, "_ccnew", 6) != 0 &&
						   strncmp(suffix, "_ccold", 6) != 0))
		return false;
	return strspn(suffix + 6, "0123456789") == strlen(suffix + 6);
}

/*
 * own_index
 *		Return which of a queue's own indexes this partial one is, -1 if none.
 */
static int
own_index(HeapTuple index_tuple, Oid access_method)
{
	Form_pg_index index = (Form_pg_index) GETSTRUCT(index_tuple);
	AttrNumber	wanted = wanted_column(index_tuple);

	if (access_method != BTREE_AM_OID || index->indisunique ||
		index->indisexclusion)
		return -1;
	for (int i = 0; i < NUM_OWN_INDEXES; i++)
	{
		if (wanted == queue_own_indexes[i].wanted &&
			has_own_columns(index_tuple, &queue_own_indexes[i]))
			return i;
	}
	return -1;
}

/*
 * Has the index these columns, in the order that the type and the collation of
 * the column have by default?
 */
static bool
has_own_columns(HeapTuple index_tuple, const OwnIndexForm *form)
{
	Form_pg_index index = (Form_pg_index) GETSTRUCT(index_tuple);
	oidvector  *opclasses;
	oidvector  *collations;
	int2vector *options;
	bool		isnull;

	if (index->indnatts != form->ncolumns ||
		index->indnkeyatts != form->ncolumns)
		return false;
	opclasses = (oidvector *)
		DatumGetPointer(SysCacheGetAttr(INDEXRELID, index_tuple,
										Anum_pg_index_indclass, &isnull));
	collations = (oidvector *)
		DatumGetPointer(SysCacheGetAttr(INDEXRELID, index_tuple,
										Anum_pg_index_indcollation, &isnull));
	options = (int2vector *)
		DatumGetPointer(SysCacheGetAttr(INDEXRELID, index_tuple,
										Anum_pg_index_indoption, &isnull));
	for (int i = 0; i < form->ncolumns; i++)
	{
		Oid			type = queue_column(form->columns[i])->type;

		if (index->indkey.values[i] != form->columns[i] ||
			opclasses->values[i] != GetDefaultOpClass(type, BTREE_AM_OID) ||
			options->values[i] != 0 ||
			(OidIsValid(collations->values[i]) &&
			 collations->values[i] != DEFAULT_COLLATION_OID))
			return false;
	}
	return true;
}

/*
 * Return the column of which the predicate says that it is not null, 0 if it
 * says anything else.
 */
static AttrNumber
wanted_column(HeapTuple index_tuple)
{
	bool		isnull;
	Datum		datum = SysCacheGetAttr(INDEXRELID, index_tuple,
										Anum_pg_index_indpred, &isnull);
	NullTest   *test = stringToNode(TextDatumGetCString(datum));

	if (!IsA(test, NullTest) || test->nulltesttype != IS_NOT_NULL ||
		test->argisrow || !IsA(test->arg, Var))
		return InvalidAttrNumber;
	return ((Var *) test->arg)->varattno;
}

/*
 * queue_index_is_own
 *		Does this statement make one of a queue's own?
 *
 * It has not been analyzed.
 */
bool
queue_index_is_own(IndexStmt *stmt)
{
	NullTest   *test = (NullTest *) stmt->whereClause;

	if (test == NULL || !IsA(test, NullTest) ||
		test->nulltesttype != IS_NOT_NULL || stmt->unique ||
		strcmp(stmt->accessMethod, DEFAULT_INDEX_TYPE) != 0 ||
		stmt->indexIncludingParams != NIL)
		return false;
	for (int i = 0; i < NUM_OWN_INDEXES; i++)
	{
		const OwnIndexForm *form = &queue_own_indexes[i];
		bool		is_own = is_column((Node *) test->arg, form->wanted) &&
			list_length(stmt->indexParams) == form->ncolumns;
		ListCell   *lc;

		foreach(lc, stmt->indexParams)
		{
			IndexElem  *elem = lfirst_node(IndexElem, lc);
			int			n = foreach_current_index(lc);

			is_own = is_own && elem->name != NULL &&
				strcmp(elem->name,
					   queue_column(form->columns[n])->name) == 0 &&
				elem->collation == NIL && elem->opclass == NIL &&
				elem->ordering != SORTBY_DESC &&
				elem->nulls_ordering != SORTBY_NULLS_FIRST;
		}
		if (is_own)
			return true;
	}
	return false;
}

/* Is this the name of that column alone? */
static bool
is_column(Node *expr, AttrNumber attnum)
{
	List	   *fields;

	if (expr == NULL || !IsA(expr, ColumnRef))
		return false;
	fields = ((ColumnRef *) expr)->fields;
	return list_length(fields) == 1 && IsA(linitial(fields), String) &&
		strcmp(strVal(linitial(fields)), queue_column(attnum)->name) == 0;
}

/* Return the statement that makes one; the server chooses the name. */
char *
queue_index_ddl(OwnIndex which, const char *table)
{
	const char *wanted =
		queue_column(queue_own_indexes[which].wanted)->name;

	return psprintf("CREATE INDEX ON %s USING btree %s WHERE %s IS NOT NULL",
					table, queue_index_columns(which), wanted);
}

/* Return the columns of one, as "(priority, visible_at, id)". */
char *
queue_index_columns(OwnIndex which)
{
	const OwnIndexForm *form = &queue_own_indexes[which];
	StringInfoData columns;

	initStringInfo(&columns);
	for (int i = 0; i < form->ncolumns; i++)
		appendStringInfo(&columns, "%s%s", i == 0 ? "(" : ", ",
						 queue_column(form->columns[i])->name);
	appendStringInfoChar(&columns, ')');
	return columns.data;
}
