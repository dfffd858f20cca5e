/*-------------------------------------------------------------------------
 *
 * subscription_topic.c
 *		What ties a subscription to its topic.
 *
 * A subscription is nothing without its topic, as a view is nothing without
 * its tables.  So it depends on the topic in the same way, by a row of
 * pg_depend.  DROP TABLE of a topic with subscriptions is refused (2BP01), and
 * takes them along with CASCADE; a schema or the tables of a role are dropped
 * in the right order; and pg_dump writes the topic first.
 *
 * The row is made with the settings, by subscribe() or a restore.  pg_upgrade
 * copies the settings as they are, and no such row.  There the worker makes it
 * (ddl.c).  If a topic is dropped before that, or while the library is not
 * loaded, its subscriptions lose their settings and are ordinary tables,
 * which subscribe() adopts.
 *
 * Locks: the caller has the subscription locked, and the topic against being
 * dropped.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_subscription_rel.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "api/subscription_topic.h"
#include "common/relation_name.h"
#include "shared/place.h"
#include "table/setting_row.h"
#include "table/subscription.h"

static List *tied_to(Oid relid);


/*
 * queue_subscription_tie
 *		Let the subscription depend on this topic, and on no other.
 *
 * Forgets where it stands: until now its positions may have been changed untold.
 */
void
queue_subscription_tie(Oid relid, Oid topic)
{
	List	   *old = tied_to(relid);
	ObjectAddress subscription;
	ObjectAddress referenced;
	ListCell   *lc;

	foreach(lc, old)
	{
		if (lfirst_oid(lc) != topic &&
			queue_setting_find(MEMBER_TOPIC, lfirst_oid(lc), 0, NULL))
			(void) deleteDependencyRecordsForSpecific(RelationRelationId,
													  relid, DEPENDENCY_NORMAL,
													  RelationRelationId,
													  lfirst_oid(lc));
	}
	if (!list_member_oid(old, topic))
	{
		ObjectAddressSet(subscription, RelationRelationId, relid);
		ObjectAddressSet(referenced, RelationRelationId, topic);
		recordDependencyOn(&subscription, &referenced, DEPENDENCY_NORMAL);
	}
	queue_place_drop(MyDatabaseId, relid);
	CommandCounterIncrement();
}

/* Return the tables that a table depends on as a whole, a List of Oid. */
static List *
tied_to(Oid relid)
{
	Relation	catalog = table_open(DependRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *relids = NIL;

	ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, DependDependerIndexId, true, NULL, 2,
							  key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);

		if (depend->refclassid == RelationRelationId &&
			depend->refobjsubid == 0 && depend->objsubid == 0 &&
			depend->deptype == DEPENDENCY_NORMAL)
			relids = lappend_oid(relids, depend->refobjid);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return relids;
}

/*
 * queue_subscription_check_topic
 *		Raise 55000 if the rows of a topic come from another server.
 *
 * They come in the order of commits there, and nobody here knows how far they
 * can be read.
 */
void
queue_subscription_check_topic(Oid topic)
{
	Relation	catalog = table_open(SubscriptionRelRelationId,
									 AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	bool		found;

	ScanKeyInit(&key, Anum_pg_subscription_rel_srrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(topic));
	scan = systable_beginscan(catalog, SubscriptionRelSrrelidSrsubidIndexId,
							  true, NULL, 1, &key);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	if (found)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("topic \"%s\" receives its messages by logical replication",
						queue_shown_name(topic)),
				 errdetail("It is not known here how far it can be read."),
				 errhint("Subscribe on the server that it is published on.")));
}

/*
 * queue_subscription_refuse_drop
 *		Raise 2BP01 if a topic that is to be dropped has subscriptions.
 *
 * DROP TABLE would say so, but not what to do.
 */
void
queue_subscription_refuse_drop(Oid topic)
{
	List	   *relids = queue_subscriptions_of(topic);

	if (relids == NIL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
			 errmsg("cannot drop topic \"%s\" because a subscription depends on it",
					queue_shown_name(topic)),
			 errdetail("Subscription \"%s\" reads it.",
					   queue_shown_name(linitial_oid(relids))),
			 errhint("Use queue.drop_queue() to drop the subscription first.")));
}
