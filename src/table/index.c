/*-------------------------------------------------------------------------
 *
 * index.c
 *		The indexes of a queue or topic: what they may be, and which are its own.
 *
 * Beside its primary key a queue has four indexes of its own, each over the
 * messages that have a due time, an end, a group or a correlation_id; a topic
 * has none (form.c).  A message without any of these has no entry there, and
 * a session that sends or takes it does not even open them (entries.c).  They
 * are known by what they are, whatever their names, so that a dump, REINDEX or
 * a copy of the table may name them anew.  A second one of the same kind is
 * harmless: REINDEX CONCURRENTLY has one in passing.
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
#include "nodes/primnodes.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "table/index.h"

static int	own_index(const TableForm *form, HeapTuple index_tuple,
					  Oid access_method);
static bool has_own_columns(const TableForm *form, HeapTuple index_tuple,
							const OwnIndexForm *own);
static AttrNumber wanted_column(HeapTuple index_tuple);
static bool has_pkey_columns(const TableForm *form, Form_pg_index index,
							 Oid access_method);
static bool has_user_opclass(HeapTuple index_tuple);
static bool is_left_by_reindex(const char *name);
static bool is_column(Node *expr, const QueueColumn *column);


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
queue_index_violation(Relation rel, const TableForm *form,
					  QueueIndexes *indexes)
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
			int			which = own_index(form, tuple, access_method);

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
			else if (!index->indisvalid || !has_pkey_columns(form, index, access_method))
				return psprintf("Its primary key \"%s\" is not on %s alone.", name,
								queue_form_key(form));
		}
		else if (index->indisunique &&
				 (!has_pkey_columns(form, index, access_method) ||
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
has_pkey_columns(const TableForm *form, Form_pg_index index,
				 Oid access_method)
{
	return access_method == BTREE_AM_OID &&
		index->indnatts == index->indnkeyatts &&
		queue_form_is_key(form, index->indnatts, index->indkey.values);
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
 *		Return which of the table's own indexes this partial one is, -1 if none.
 */
static int
own_index(const TableForm *form, HeapTuple index_tuple, Oid access_method)
{
	Form_pg_index index = (Form_pg_index) GETSTRUCT(index_tuple);
	AttrNumber	wanted = wanted_column(index_tuple);

	if (access_method != BTREE_AM_OID || index->indisunique ||
		index->indisexclusion)
		return -1;
	for (int i = 0; i < form->nindexes; i++)
	{
		if (wanted == form->indexes[i].wanted &&
			has_own_columns(form, index_tuple, &form->indexes[i]))
			return i;
	}
	return -1;
}

/*
 * Has the index these columns, in the order that the type and the collation of
 * the column have by default?
 */
static bool
has_own_columns(const TableForm *form, HeapTuple index_tuple,
				const OwnIndexForm *own)
{
	Form_pg_index index = (Form_pg_index) GETSTRUCT(index_tuple);
	oidvector  *opclasses;
	oidvector  *collations;
	int2vector *options;
	bool		isnull;

	if (index->indnatts != own->ncolumns ||
		index->indnkeyatts != own->ncolumns)
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
	for (int i = 0; i < own->ncolumns; i++)
	{
		Oid			type = form->columns[own->columns[i] - 1].type;

		if (index->indkey.values[i] != own->columns[i] ||
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
 *		Does this statement make one of the table's own?
 *
 * It has not been analyzed.
 */
bool
queue_index_is_own(const TableForm *form, IndexStmt *stmt)
{
	NullTest   *test = (NullTest *) stmt->whereClause;

	if (test == NULL || !IsA(test, NullTest) ||
		test->nulltesttype != IS_NOT_NULL || stmt->unique ||
		strcmp(stmt->accessMethod, DEFAULT_INDEX_TYPE) != 0 ||
		stmt->indexIncludingParams != NIL)
		return false;
	for (int i = 0; i < form->nindexes; i++)
	{
		const OwnIndexForm *own = &form->indexes[i];
		bool		is_own = list_length(stmt->indexParams) == own->ncolumns &&
			is_column((Node *) test->arg, &form->columns[own->wanted - 1]);
		ListCell   *lc;

		foreach(lc, stmt->indexParams)
		{
			IndexElem  *elem = lfirst_node(IndexElem, lc);
			int			n = foreach_current_index(lc);

			is_own = is_own && elem->name != NULL &&
				strcmp(elem->name,
					   form->columns[own->columns[n] - 1].name) == 0 &&
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
is_column(Node *expr, const QueueColumn *column)
{
	List	   *fields;

	if (expr == NULL || !IsA(expr, ColumnRef))
		return false;
	fields = ((ColumnRef *) expr)->fields;
	return list_length(fields) == 1 && IsA(linitial(fields), String) &&
		strcmp(strVal(linitial(fields)), column->name) == 0;
}

/* Return the statement that makes one; the server chooses the name. */
char *
queue_index_ddl(const TableForm *form, int which, const char *table)
{
	AttrNumber	wanted = form->indexes[which].wanted;

	return psprintf("CREATE INDEX ON %s USING btree %s WHERE %s IS NOT NULL",
					table, queue_index_columns(form, which),
					form->columns[wanted - 1].name);
}

/* Return the columns of one, as "(priority, visible_at, id)". */
char *
queue_index_columns(const TableForm *form, int which)
{
	return queue_form_columns(form, form->indexes[which].ncolumns,
							  form->indexes[which].columns);
}
