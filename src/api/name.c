/*-------------------------------------------------------------------------
 *
 * name.c
 *		Names of new queues and topics.
 *
 * A name that create_queue() is given is resolved as CREATE TABLE would, by the
 * caller's search_path.  A new table is invisible to others until the commit,
 * so a lock on the name itself tells them of it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "parser/scansup.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"

#include "api/name.h"
#include "common/blocker.h"

/* What a name made up from a long name keeps of it at least, in bytes */
#define NAME_STEM		(NAMEDATALEN - 32)

static void check_name_length(const char *name, const char *noun);


/*
 * queue_name_schema
 *		Split a name as CREATE TABLE would, and return the schema that the
 *		table goes to, by the caller's search_path.
 *
 * Throws if the caller may not create there, or if it is a temporary schema.
 */
Oid
queue_name_schema(text *name, const char *noun, char **relname)
{
	RangeVar   *rv = makeRangeVarFromNameList(textToQualifiedNameList(name));
	Oid			schema = InvalidOid;

	check_name_length(text_to_cstring(name), noun);

	/* the server would create this schema */
	if (rv->schemaname == NULL || strcmp(rv->schemaname, "pg_temp") != 0)
		schema = RangeVarGetCreationNamespace(rv);
	if (!OidIsValid(schema) || isAnyTempNamespace(schema))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("%s \"%s\" cannot be created in a temporary schema",
						noun, rv->relname),
				 errdetail("Messages are for other sessions.")));

	*relname = rv->relname;
	return RangeVarGetAndCheckCreationNamespace(rv, NoLock, NULL);
}

/*
 * check_name_length
 *		Raise an error if a part of the name is too long.
 *
 * The function that split the name has cut such a part silently, and two names
 * may be one then.  The name is a valid one otherwise.
 */
static void
check_name_length(const char *name, const char *noun)
{
	const char *p = name;

	while (*p != '\0')
	{
		const char *start = p;
		int			len = 0;

		if (*p == '"')
		{
			/* to the quote that has no twin */
			for (p++; *p != '"' || *++p == '"'; p++)
				len++;
		}
		else
		{
			for (; *p != '\0' && *p != '.' && !scanner_isspace(*p); p++)
				len++;
		}
		if (len >= NAMEDATALEN)
			ereport(ERROR,
					(errcode(ERRCODE_NAME_TOO_LONG),
					 errmsg("name of a %s is too long", noun),
					 errdetail("\"%.*s\" has %d bytes; no identifier has more than %d.",
							   (int) (p - start), start, len, NAMEDATALEN - 1)));

		/* blanks are allowed on both sides of the dot */
		while (*p == '.' || scanner_isspace(*p))
			p++;
	}
}

/*
 * queue_name_lock
 *		Lock a name to the end of the transaction, so that only one
 *		transaction at a time makes a queue of it, or finds out that there is
 *		one.
 *
 * The lock is on the schema, with a hash of the name for "subobject"; names
 * with the same hash wait for each other.  So do names whose beginnings are
 * alike for so long that what is made up from them (index, sequence,
 * dead-letter queue) may have the same name.
 */
void
queue_name_lock(Oid schema, const char *relname)
{
	uint32		hash = hash_bytes((const unsigned char *) relname,
								  Min(strlen(relname), NAME_STEM));
	LOCKTAG		tag;

	/* "subobject" 0 is the schema itself */
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, NamespaceRelationId, schema,
					   1 + hash % PG_UINT16_MAX);
	if (LockAcquire(&tag, ExclusiveLock, false, true /* do not wait */ ) ==
		LOCKACQUIRE_NOT_AVAIL)
	{
		queue_blocker_refuse_lock(&tag, ExclusiveLock, "queue",
								  quote_qualified_identifier(get_namespace_name(schema),
															 relname));
		(void) LockAcquire(&tag, ExclusiveLock, false, false);
	}
	/* see what was made while we waited */
	AcceptInvalidationMessages();
}
