/*-------------------------------------------------------------------------
 *
 * origin.c
 *		Where a dead letter comes from, as its row says.
 *
 * The header "dead_letter" tells it to people, but a role that may send to the
 * dead-letter queue can write such a header, and one that may UPDATE it
 * another one.  So the server goes by the column failure_log, which nobody but
 * the server, a restore and the owner writes: the log of a dead letter begins
 * with an object that has the key "source".  It stays there while the dead
 * letter is in its queue, however often it fails.
 *
 *	source			qualified name of the queue
 *	source_oid		OID of that table ...
 *	system			... in this cluster, by its system identifier
 *	source_id		id of the message there
 *	expires_at		when it was to expire there, if it was
 *	had_headers		false: its headers were null
 *
 * The OID follows a queue that is renamed.  A dump brings messages into other
 * clusters, where an OID means something else, and a queue that is dropped and
 * restored has another, so then the name counts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "common/compat.h"
#include "common/relation_name.h"
#include "table/origin.h"

static JsonbContainer *find_mark(NullableDatum log);
static char *get_text(JsonbContainer *mark, const char *key);
static int64 get_number(JsonbContainer *mark, const char *key);
static Oid	find_queue(JsonbContainer *mark, const char *name);
static Oid	find_by_name(const char *name);

/*
 * queue_origin_make
 *		Return the log that a dead letter begins with, whose message is this
 *		row.
 */
Datum
queue_origin_make(Relation rel, MessageRow *row)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, "[{\"source\": ");
	escape_json(&text, queue_qualified_name(RelationGetRelid(rel)));
	appendStringInfo(&text, ", \"source_id\": " INT64_FORMAT
					 ", \"source_oid\": %u, \"system\": \"" UINT64_FORMAT "\""
					 ", \"had_headers\": %s",
					 row->id, RelationGetRelid(rel), GetSystemIdentifier(),
					 slot_attisnull(row->slot, Anum_message_headers) ?
					 "false" : "true");
	if (row->expires_at != 0)
		appendStringInfo(&text, ", \"expires_at\": " INT64_FORMAT,
						 row->expires_at);
	appendStringInfoString(&text, "}]");
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(text.data));
}

/*
 * queue_origin_read
 *		Read where a dead letter comes from, by the log of its row.
 *
 * Returns false if the log does not say, because the message was sent there.
 */
bool
queue_origin_read(NullableDatum log, Origin *origin)
{
	JsonbContainer *mark = find_mark(log);
	JsonbValue	value;

	if (mark == NULL)
		return false;
	origin->name = get_text(mark, "source");
	origin->relid = find_queue(mark, origin->name);
	origin->id = Max(get_number(mark, "source_id"), 0);
	origin->expires_at = get_number(mark, "expires_at");
	origin->had_headers =
		getKeyJsonValueFromContainer(mark, "had_headers",
									 strlen("had_headers"), &value) == NULL ||
		value.type != jbvBool || value.val.boolean;
	return true;
}

/* Return a log that begins with what the one before it began with. */
Datum
queue_origin_keep(NullableDatum before, Datum log)
{
	NullableDatum made = {log, false};
	Datum		mark;

	if (find_mark(before) == NULL || find_mark(made) != NULL)
		return log;
	mark = before.value;
	while (JB_ROOT_COUNT(DatumGetJsonbP(mark)) > 1)
		mark = DirectFunctionCall2(jsonb_delete_idx, mark, Int32GetDatum(-1));
	return DirectFunctionCall2(jsonb_concat, mark, log);
}

/* Return a log without that: failures alone, null if there are none. */
NullableDatum
queue_origin_strip(NullableDatum log)
{
	if (find_mark(log) == NULL)
		return log;
	log.isnull = JB_ROOT_COUNT(DatumGetJsonbP(log.value)) == 1;
	if (!log.isnull)
		log.value = DirectFunctionCall2(jsonb_delete_idx, log.value,
										Int32GetDatum(0));
	return log;
}

/* Return the object that says where a dead letter comes from, or NULL. */
static JsonbContainer *
find_mark(NullableDatum log)
{
	Jsonb	   *array = log.isnull ? NULL : DatumGetJsonbP(log.value);
	JsonbValue *first;
	JsonbValue	source;

	if (array == NULL || !JB_ROOT_IS_ARRAY(array) ||
		JB_ROOT_IS_SCALAR(array) || JB_ROOT_COUNT(array) == 0)
		return NULL;
	first = getIthJsonbValueFromContainer(&array->root, 0);
	if (first->type != jbvBinary ||
		!JsonContainerIsObject(first->val.binary.data) ||
		getKeyJsonValueFromContainer(first->val.binary.data, "source",
									 strlen("source"), &source) == NULL ||
		source.type != jbvString)
		return NULL;
	return first->val.binary.data;
}

/* Parts of it, palloc'd; "" and 0 if there is no such thing */
static char *
get_text(JsonbContainer *mark, const char *key)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(mark, key, strlen(key), &value) == NULL ||
		value.type != jbvString)
		return pstrdup("");
	return pnstrdup(value.val.string.val, value.val.string.len);
}

static int64
get_number(JsonbContainer *mark, const char *key)
{
	JsonbValue	value;
	double		number;

	if (getKeyJsonValueFromContainer(mark, key, strlen(key), &value) == NULL ||
		value.type != jbvNumeric)
		return 0;

	/* the owner may have written anything */
	number = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
												NumericGetDatum(value.val.numeric)));
	if (!(number > -9e18 && number < 9e18))
		return 0;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8,
											 NumericGetDatum(value.val.numeric)));
}

/* Return the queue, InvalidOid if it is gone. */
static Oid
find_queue(JsonbContainer *mark, const char *name)
{
	char		here[32];

	snprintf(here, sizeof(here), UINT64_FORMAT, GetSystemIdentifier());
	if (strcmp(get_text(mark, "system"), here) == 0)
	{
		int64		oid = get_number(mark, "source_oid");

		if (oid > 0 && oid <= PG_UINT32_MAX &&
			get_rel_relkind((Oid) oid) == RELKIND_RELATION)
			return (Oid) oid;
	}
	return find_by_name(name);
}

/*
 * Return the table of this qualified name, or InvalidOid.  A role that has no
 * right to see its schema finds it all the same: the rights on the table
 * decide.
 */
static Oid
find_by_name(const char *name)
{
	List	   *names;
	Oid			schema;
	Oid			relid;

	if (!SplitIdentifierString(pstrdup(name), '.', &names) ||
		list_length(names) != 2)
		return InvalidOid;
	schema = get_namespace_oid(linitial(names), true);
	if (!OidIsValid(schema))
		return InvalidOid;
	relid = get_relname_relid(lsecond(names), schema);
	return OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_RELATION ?
		relid : InvalidOid;
}
