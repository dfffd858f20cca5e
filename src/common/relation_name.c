/*-------------------------------------------------------------------------
 *
 * relation_name.c
 *		What a table is called.
 *
 * With its schema, whatever the search_path is: who reads it may have another
 * one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "common/relation_name.h"

/*
 * queue_shown_name
 *		Return the qualified name of a relation for a message that has it in
 *		quotes, or its OID if it is gone.
 */
char *
queue_shown_name(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		return psprintf("%u", relid);
	return psprintf("%s.%s",
					get_namespace_name_or_temp(get_rel_namespace(relid)),
					name);
}

/*
 * queue_qualified_name
 *		The same for SQL: what needs quotes has them.
 */
char *
queue_qualified_name(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		return psprintf("%u", relid);
	return quote_qualified_identifier(get_namespace_name_or_temp(get_rel_namespace(relid)),
									  name);
}
