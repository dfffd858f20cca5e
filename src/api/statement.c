/*-------------------------------------------------------------------------
 *
 * statement.c
 *		Statements of DDL that functions run.
 *
 * Where speed does not matter, tables are made and changed by plain DDL through
 * SPI, as the caller, so that the server checks what it always checks, and event
 * triggers and other modules learn of it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"

#include "api/statement.h"
#include "common/relation_name.h"
#include "common/sql.h"


/*
 * queue_ddl_begin
 *		Begin to run statements through SPI, as the caller.
 *
 * search_path is pinned, so that no object of another role is found by an
 * unqualified name.  Returns what queue_ddl_end() needs.  An error ends both
 * the SPI connection and the setting by ending the (sub)transaction.
 */
int
queue_ddl_begin(void)
{
	int			guc_level = NewGUCNestLevel();

	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	queue_sql_begin();
	return guc_level;
}

/* Leave SPI, and restore search_path. */
void
queue_ddl_end(int guc_level)
{
	queue_sql_end();
	AtEOXact_GUC(true, guc_level);
}

/* Run one statement of DDL. */
void
queue_ddl_run(const char *statement)
{
	(void) queue_sql_run(statement, 0, NULL, NULL, NULL);
}

/*
 * queue_ddl_revoke_defaults
 *		Revoke what default privileges have granted on a dead-letter queue, or
 *		a key table.
 *
 * Dead letters may come from queues that fewer roles can read than tables made
 * in this schema as a rule, and a role that could write them could forge them.
 * So only the owner has privileges until it grants them on this very queue.
 * The same goes for keys.
 */
void
queue_ddl_revoke_defaults(Oid relid, const char *object)
{
	char	   *name = queue_qualified_name(relid);
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;
	Datum		datum;
	bool		isnull;
	Acl		   *acl;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	datum = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relacl, &isnull);
	acl = isnull ? NULL : DatumGetAclPCopy(datum);
	ReleaseSysCache(tuple);

	for (int i = 0; acl != NULL && i < ACL_NUM(acl); i++)
	{
		Oid			grantee = ACL_DAT(acl)[i].ai_grantee;

		if (grantee != owner)
			queue_ddl_run(psprintf("REVOKE ALL ON %s %s FROM %s", object, name,
								   grantee == ACL_ID_PUBLIC ? "PUBLIC" :
								   quote_identifier(GetUserNameFromId(grantee,
																	  false))));
	}
}
