/*-------------------------------------------------------------------------
 *
 * queue.c
 *		Module load: settings, shared memory, hooks.
 *
 * The library must be loaded by shared_preload_libraries, because it needs
 * shared memory and a process of its own.  Loaded in any other way it sets
 * nothing up and raises no error, so that tools which only look at functions
 * go on working; each function raises the error then.
 *
 * Hooks, and what they cost where there is no queue:
 *
 *	ProcessUtility: after COMMIT PREPARED and ROLLBACK PREPARED, a look at the
 *	registry (prepared.c) and at the list of waiters; around statements that
 *	need a database for themselves, its worker is kept away (worker.c).
 *	Statements that prepare or finish a branch of a global transaction are
 *	noted, and a PREPARE TRANSACTION that prepares nothing is made an error
 *	(branch.c).  DDL that would make a queue something else (guard.c), or
 *	would wait for a prepared transaction (ddl.c), is refused before it
 *	begins.  After ALTER TABLE ... SET UNLOGGED a queue's sequence is made
 *	logged again (ddl.c); what changes the place of a queue, or truncates it,
 *	does so with its key table (key_ddl.c).  ALTER EXTENSION makes all sessions look at its
 *	version (member.c).
 *
 *	object access: when a relation is dropped, its settings go (ddl.c); when
 *	a queue is altered, all of its messages are looked for (cover.c), and when
 *	it is truncated, that is noted for the commit (holds.c).
 *
 *	emit log: remembers the SQLSTATE of an error (fault.c).
 *
 * In binary upgrade nothing is set up, no process and no hook: pg_upgrade
 * wants its databases undisturbed, and the extension may not be there yet.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "tcop/utility.h"

#include "api/ddl.h"
#include "api/guard.h"
#include "api/key_ddl.h"
#include "api/restore.h"
#include "common/activity.h"
#include "common/args.h"
#include "common/compat.h"
#include "common/extension.h"
#include "common/guc.h"
#include "dispatch/lease.h"
#include "global/branch.h"
#include "global/resolver.h"
#include "shared/counter_writer.h"
#include "shared/database.h"
#include "shared/group.h"
#include "shared/inflight.h"
#include "shared/news.h"
#include "shared/place.h"
#include "shared/quota.h"
#include "shared/saved_counters.h"
#include "shared/sought.h"
#include "shared/topic_slot.h"
#include "shared/waiter.h"
#include "table/dedup.h"
#include "table/definition.h"
#include "table/member.h"
#include "table/subscription.h"
#include "table/topic.h"
#include "topic/bindings.h"
#include "transaction/announce.h"
#include "transaction/announcer.h"
#include "transaction/charge.h"
#include "transaction/in_doubt.h"
#include "transaction/prepared.h"
#include "transaction/recovered.h"
#include "transaction/xact.h"
#include "worker/duties.h"
#include "worker/expire.h"
#include "worker/forget.h"
#include "worker/gone.h"
#include "worker/passed.h"
#include "worker/repair.h"
#include "worker/retain.h"
#include "worker/stable.h"
#include "worker/tally.h"
#include "worker/vacuum.h"
#include "worker/worker.h"

QUEUE_MODULE_MAGIC("queue", QUEUE_VERSION);

/* What one file keeps in shared memory, and its locks */
typedef struct SharedPart
{
	const char *tranche;		/* of its locks; NULL: it has none */
	int			(*nlocks) (void);
	Size		(*size) (void);
	void		(*init) (void);
} SharedPart;

static int	one_lock(void);

static const SharedPart parts[] = {
	{"queue_inflight", queue_inflight_nlocks,
	queue_inflight_shmem_size, queue_inflight_shmem_init},
	{NULL, NULL, queue_saved_shmem_size, queue_saved_shmem_init},
	{NULL, NULL, queue_counter_writer_shmem_size, queue_counter_writer_shmem_init},
	{"queue_slot", queue_slot_nlocks,
	queue_slot_shmem_size, queue_slot_shmem_init},
	{"queue_topic", queue_topic_slot_nlocks,
	queue_topic_slot_shmem_size, queue_topic_slot_shmem_init},
	{NULL, NULL, queue_registration_shmem_size, queue_registration_shmem_init},
	{NULL, NULL, queue_news_shmem_size, queue_news_shmem_init},
	{NULL, NULL, queue_place_shmem_size, queue_place_shmem_init},
	{NULL, NULL, queue_sought_shmem_size, queue_sought_shmem_init},
	{"queue_group", queue_group_nlocks,
	queue_group_shmem_size, queue_group_shmem_init},
	{NULL, NULL, queue_quota_shmem_size, queue_quota_shmem_init},
	{"queue_failure", one_lock,
	queue_failure_shmem_size, queue_failure_shmem_init},
	{"queue_waiter", one_lock,
	queue_waiter_shmem_size, queue_waiter_shmem_init},
	{"queue_prepared", one_lock,
	queue_prepared_shmem_size, queue_prepared_shmem_init},
	{NULL, NULL, queue_recovered_shmem_size, queue_recovered_shmem_init},
	{NULL, NULL, queue_announcer_shmem_size, queue_announcer_shmem_init},
	{NULL, NULL, queue_charge_shmem_size, queue_charge_shmem_init},
	{"queue_dedup", queue_dedup_nlocks,
	queue_dedup_shmem_size, queue_dedup_shmem_init},
	{"queue_database", one_lock,
	queue_database_shmem_size, queue_database_shmem_init},
	{"queue_activity", one_lock,
	queue_activity_shmem_size, queue_activity_shmem_init},
};

/* The duties of a database's worker (duties.c) */
static Duty duties[] = {
	{
		.activity = "looking for queues that are gone",
		.work = queue_ddl_forget_gone
	},
	{
		.activity = "compacting leases",
		.work = queue_lease_compact,
		.is_wanted = queue_lease_is_long,
		.failed = queue_lease_compact_failed
	},
	{
		.activity = "looking after queues",
		.work = queue_repair,
		.is_wanted = queue_repair_is_needed,
		.failed = queue_repair_failed
	},
	{
		.activity = "looking for expired messages",
		.work = queue_expire,
		.due = queue_expire_due,
		.failed = queue_expire_failed
	},
	{
		.activity = "forgetting dedup keys",
		.work = queue_forget,
		.due = queue_forget_due,
		.failed = queue_forget_failed
	},
	{
		.activity = "looking after leases",
		.work = queue_gone,
		.is_wanted = queue_gone_is_needed,
		.failed = queue_gone_skip
	},
	{
		.activity = "deleting old messages of topics",
		.work = queue_retain,
		.due = queue_retain_due,
		.failed = queue_retain_failed
	},
	{
		.activity = "moving positions of subscriptions",
		.work = queue_passed_move,
		.due = queue_passed_due,
		.failed = queue_passed_failed
	},
	{
		.activity = "writing stable ids",
		.work = queue_stable_write,
		.due = queue_stable_due,
		.failed = queue_stable_failed
	},
	{
		.activity = "counting messages",
		.work = queue_tally,
		.due = queue_tally_due,
		.is_urgent = queue_tally_is_urgent,
		.failed = queue_tally_failed
	},
	{
		.activity = "looking for dead rows",
		.work = queue_vacuum_check,
		.interval = USECS_PER_SEC,
		.is_lazy = true,
		.lacks_snapshot = true,
		.failed = queue_vacuum_skip
	},
	{
		.activity = "looking after prepared transactions",
		.work = queue_in_doubt_warn,
		.is_wanted = queue_in_doubt_is_wanted,
		.is_urgent = queue_in_doubt_is_urgent
	},
	{
		.activity = "looking for branches of global transactions",
		.work = queue_resolver_start_if_needed,
		.interval = 60 * USECS_PER_SEC,
		.lacks_snapshot = true,
		.is_urgent = queue_resolver_is_urgent
	}
};

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;
static ProcessUtility_hook_type prev_ProcessUtility_hook = NULL;
static object_access_hook_type prev_object_access_hook = NULL;

void		_PG_init(void);

static void request_shmem(void);
static void startup_shmem(void);
static void process_utility(PlannedStmt *pstmt, const char *queryString,
							bool readOnlyTree, ProcessUtilityContext context,
							ParamListInfo params, QueryEnvironment *queryEnv,
							DestReceiver *dest, QueryCompletion *qc);
static void object_access(ObjectAccessType access, Oid classId, Oid objectId,
						  int subId, void *arg);

/* Set everything up, if the library is preloaded. */
void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	queue_is_preloaded = true;

	queue_guc_init();
	queue_definition_init();
	queue_topic_init();
	queue_subscription_init();
	queue_bindings_init();
	queue_member_init();
	queue_xact_init();
	queue_duties_set(duties, lengthof(duties));
	queue_leader_register();

	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
	prev_ProcessUtility_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	prev_object_access_hook = object_access_hook;
	object_access_hook = object_access;
}

/* ----------------------------------------------------------------
 *		Shared memory
 * ----------------------------------------------------------------
 */

/* Hook: ask for shared memory and locks. */
static void
request_shmem(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	for (int i = 0; i < lengthof(parts); i++)
	{
		RequestAddinShmemSpace(parts[i].size());
		if (parts[i].tranche != NULL)
			RequestNamedLWLockTranche(parts[i].tranche, parts[i].nlocks());
	}
}

/* Hook: create or attach to shared memory. */
static void
startup_shmem(void)
{
	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < lengthof(parts); i++)
		parts[i].init();
	LWLockRelease(AddinShmemInitLock);
}

static int
one_lock(void)
{
	return 1;
}

/* ----------------------------------------------------------------
 *		Hooks
 * ----------------------------------------------------------------
 */

/*
 * process_utility
 *		ProcessUtility hook: see the top of the file.
 */
static void
process_utility(PlannedStmt *pstmt, const char *queryString,
				bool readOnlyTree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *queryEnv,
				DestReceiver *dest, QueryCompletion *qc)
{
	PlannedStmt *planned = queue_restore_redirect(pstmt);

	/*
	 * What is read after the statement has run must be a copy, because its
	 * plan may go with the transaction that it ends, and other hooks may
	 * change it.
	 */
	Node	   *stmt = IsA(planned->utilityStmt, TransactionStmt) ?
		copyObject(planned->utilityStmt) : planned->utilityStmt;
	bool		ends_prepared = IsA(stmt, TransactionStmt) &&
		(((TransactionStmt *) stmt)->kind == TRANS_STMT_COMMIT_PREPARED ||
		 ((TransactionStmt *) stmt)->kind == TRANS_STMT_ROLLBACK_PREPARED);
	bool		had_recovered = ends_prepared && queue_recovered_are_there();
	bool		alters_extension = IsA(stmt, AlterExtensionStmt) &&
		strcmp(((AlterExtensionStmt *) stmt)->extname, QUEUE_EXTENSION) == 0;
	int			prepare_error = queue_branch_prepare_error(stmt);
	RangeVar   *unlogged = queue_ddl_find_unlogged(stmt);
	List	   *leaders = queue_key_table_leaders(stmt);
	Oid			excluded_db;

	queue_guard_check(stmt);
	queue_key_table_guard(stmt);
	queue_ddl_refuse_in_doubt(stmt);
	queue_branch_note_outcome(stmt);
	if (prepare_error == 0)
		queue_branch_before_prepare(stmt);
	excluded_db = queue_worker_exclude(stmt);
	PG_TRY();
	{
		if (prev_ProcessUtility_hook)
			prev_ProcessUtility_hook(planned, queryString, readOnlyTree,
									 context, params, queryEnv, dest, qc);
		else
			standard_ProcessUtility(planned, queryString, readOnlyTree,
									context, params, queryEnv, dest, qc);
	}
	PG_FINALLY();
	{
		queue_worker_readmit(excluded_db);
	}
	PG_END_TRY();

	/* the block has ended now, as PREPARE TRANSACTION would have ended it */
	if (prepare_error != 0)
		queue_branch_report_unprepared(stmt, prepare_error);
	queue_branch_wake_resolver(stmt);
	if (unlogged != NULL)
		queue_ddl_keep_sequence_logged(unlogged);
	queue_key_table_follow(stmt, leaders);
	if (alters_extension)
	{
		queue_member_version_changed();
		queue_xact_note_database();
	}

	/* it may be in the registry, or have been prepared before a restart */
	if (ends_prepared)
	{
		(void) queue_xact_resolve_prepared(NULL);
		queue_recovered_note_end(had_recovered);
	}
}

/*
 * object_access
 *		Object access hook.
 *
 * A table that is about to be dropped may be a queue.  A queue that is changed
 * in some way may have got rows without its trigger, so it is unknown where
 * they are and which ids they have.
 */
static void
object_access(ObjectAccessType access, Oid classId, Oid objectId, int subId,
			  void *arg)
{
	if (prev_object_access_hook)
		prev_object_access_hook(access, classId, objectId, subId, arg);
	if (access == OAT_DROP && classId == RelationRelationId && subId == 0)
		queue_on_relation_drop(objectId);
	if (access == OAT_POST_ALTER && classId == RelationRelationId && subId == 0)
		queue_on_relation_alter(objectId);
	if (access == OAT_TRUNCATE && classId == RelationRelationId)
		queue_on_relation_truncate(objectId);
	if (access == OAT_POST_ALTER && classId == TriggerRelationId)
		queue_on_trigger_alter(objectId);
}
