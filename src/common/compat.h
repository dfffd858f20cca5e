/*-------------------------------------------------------------------------
 *
 * compat.h
 *		Differences between the server releases that queue builds with.
 *
 * The code body shows the newest API; this file translates down, and says
 * which release changed what.  PostgreSQL 15, 17 and 18 are supported; 16 is
 * not tested, and 19 is not released.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_COMPAT_H
#define QUEUE_COMPAT_H

/*
 * These minor releases or later ones, because what is used of the server here
 * has been exported, or works, only from them on.
 */
#if PG_VERSION_NUM < 150020 || \
	(PG_VERSION_NUM >= 160000 && PG_VERSION_NUM < 160016) || \
	(PG_VERSION_NUM >= 170000 && PG_VERSION_NUM < 170012) || \
	(PG_VERSION_NUM >= 180000 && PG_VERSION_NUM < 180006)
#error "queue needs PostgreSQL 15.20, 16.16, 17.12 or 18.6, or a later minor release of these"
#endif

#include "access/genam.h"
#include "access/tableam.h"
#include "access/tupdesc.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "commands/vacuum.h"
#include "executor/executor.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "replication/message.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/acl.h"
#include "utils/jsonb.h"
#include "utils/wait_event.h"

/* 16: what is inside a varlena is no part of postgres.h any more */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* 16: one object_ownercheck() took the place of one function per catalog */
#if PG_VERSION_NUM < 160000
static inline bool
object_ownercheck(Oid classid, Oid objectid, Oid roleid)
{
	if (classid == DatabaseRelationId)
		return pg_database_ownercheck(objectid, roleid);
	if (classid == NamespaceRelationId)
		return pg_namespace_ownercheck(objectid, roleid);
	if (classid == ExtensionRelationId)
		return pg_extension_ownercheck(objectid, roleid);
	Assert(classid == RelationRelationId);
	return pg_class_ownercheck(objectid, roleid);
}
#endif

/* 17: a logical message can be flushed at once */
#if PG_VERSION_NUM < 170000
#define LogLogicalMessage(prefix, message, size, transactional, flush) \
	LogLogicalMessage(prefix, message, size, transactional)
#endif

/* 16: files of relations have numbers, no longer nodes */
#if PG_VERSION_NUM < 160000
#define rd_firstRelfilelocatorSubid rd_firstRelfilenodeSubid
#define RelationSetNewRelfilenumber(rel, persistence) \
	RelationSetNewRelfilenode(rel, persistence)
#endif

/* 16: the states of processes are found by an index, as it is called now */
#if PG_VERSION_NUM < 160000
#define pgstat_get_local_beentry_by_index(i) pgstat_fetch_stat_local_beentry(i)
#endif

/* 16: TRUNCATE may be done as the owner */
#if PG_VERSION_NUM < 160000
#define ExecuteTruncateGuts(rels, relids, logged, behavior, restart, as_owner) \
	ExecuteTruncateGuts(rels, relids, logged, behavior, restart)
#endif

/* 16: counts of tuples in statistics lost their prefix; vacuum() lets its
 * caller own the memory context, and has options for what it did always */
#if PG_VERSION_NUM < 160000
#define dead_tuples n_dead_tuples
#define live_tuples n_live_tuples
#define vacuum(relations, params, strategy, context, isTopLevel) \
	((void) (context), vacuum(relations, params, strategy, isTopLevel))
#define VACOPT_PROCESS_MAIN 0
#define VACOPT_SKIP_DATABASE_STATS 0
#endif

/* 18: vacuum() may freeze pages before it has to */
static inline void
queue_vacuum_set_eagerness(VacuumParams *params)
{
#if PG_VERSION_NUM >= 180000
	params->max_eager_freeze_failure_rate =
		vacuum_max_eager_freeze_failure_rate;
#endif
}

/* 17: stronger modes of a lock may be meant, too */
#if PG_VERSION_NUM < 170000
#define LockHeldByMe(tag, mode, orstronger) LockHeldByMe(tag, mode)
#endif

/* 17: wait events of extensions have names of their own */
#if PG_VERSION_NUM < 170000
#define WaitEventExtensionNew(name) PG_WAIT_EXTENSION
#endif

/* 17: a backend knows its slot by number; 15 has it in the PGPROC */
#if PG_VERSION_NUM < 170000
#define MyProcNumber MyProc->pgprocno
#endif
#define NO_PROC				(-1)	/* no process has this number */

/* 18: index_beginscan() takes a place for instrumentation; 19: scans take
 * flags */
#if PG_VERSION_NUM < 180000
#define index_beginscan(heap, index, snapshot, instrument, nkeys, norderbys, \
						flags) \
	index_beginscan(heap, index, snapshot, nkeys, norderbys)
#elif PG_VERSION_NUM < 190000
#define index_beginscan(heap, index, snapshot, instrument, nkeys, norderbys, \
						flags) \
	index_beginscan(heap, index, snapshot, instrument, nkeys, norderbys)
#endif
#if PG_VERSION_NUM < 190000
#define table_beginscan(rel, snapshot, nkeys, keys, flags) \
	table_beginscan(rel, snapshot, nkeys, keys)
#define table_beginscan_tidrange(rel, snapshot, mintid, maxtid, flags) \
	table_beginscan_tidrange(rel, snapshot, mintid, maxtid)
#endif

/* 19: so do changes of rows; that a row goes to another partition is a flag */
#if PG_VERSION_NUM < 190000
#define table_tuple_delete(rel, tid, cid, flags, snapshot, crosscheck, wait, \
						   failure) \
	table_tuple_delete(rel, tid, cid, snapshot, crosscheck, wait, failure, \
					   false)
#define table_tuple_update(rel, tid, slot, cid, flags, snapshot, crosscheck, \
						   wait, failure, lockmode, indexes) \
	table_tuple_update(rel, tid, slot, cid, snapshot, crosscheck, wait, \
					   failure, lockmode, indexes)
#endif

/* 19: a look at a page may set its bit in the visibility map, too */
#if PG_VERSION_NUM < 190000
#define heap_page_prune_opt(rel, buffer, vmbuffer, rel_read_only) \
	heap_page_prune_opt(rel, buffer)
#endif

/* 19: a hash table in shared memory has one size */
#if PG_VERSION_NUM < 190000
#define ShmemInitHash(name, nelems, info, flags) \
	ShmemInitHash(name, nelems, nelems, info, flags)
#endif

/* 19: what builds a JSON value keeps the result, too */
#if PG_VERSION_NUM < 190000
typedef struct JsonbInState
{
	JsonbParseState *parseState;
	JsonbValue *result;
} JsonbInState;

#define pushJsonbValue(state, token, value) \
	((state)->result = pushJsonbValue(&(state)->parseState, token, value))
#endif

/* 19: signal handlers get more than the number */
#if PG_VERSION_NUM < 190000
#define PASS_SIGNAL_ARGS postgres_signal_arg
#else
#define PASS_SIGNAL_ARGS postgres_signal_arg, pg_siginfo
#endif

/* 19: an attribute says that a case goes on in the next one; clang before 10
 * and gcc before 7 have none */
#if PG_VERSION_NUM < 190000
#if __has_attribute(fallthrough)
#define pg_fallthrough __attribute__((fallthrough))
#else
#define pg_fallthrough ((void) 0)
#endif
#endif

/* 19: vacuum and analyze are logged apart */
#if PG_VERSION_NUM < 190000
#define log_vacuum_min_duration log_min_duration
#endif

/* 19: CLUSTER is a kind of REPACK */
#if PG_VERSION_NUM < 190000
#define T_RepackStmt T_ClusterStmt
#endif

/* The table that it names, or NULL */
static inline RangeVar *
queue_repacked_table(Node *stmt)
{
#if PG_VERSION_NUM < 190000
	return ((ClusterStmt *) stmt)->relation;
#else
	VacuumRelation *table = ((RepackStmt *) stmt)->relation;

	return table != NULL ? table->relation : NULL;
#endif
}

/* 18: the attribute is a word, and comes before the declaration */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* 17: the privilege to maintain a table, of a role that may not change it */
#if PG_VERSION_NUM < 170000
#define ACL_MAINTAIN ACL_NO_RIGHTS
#endif

/* 17: intervals may be infinite, and infinite timestamps have a name */
#if PG_VERSION_NUM < 170000
#define INTERVAL_NOT_FINITE(i) false
#define TIMESTAMP_MINUS_INFINITY DT_NOBEGIN
#define TIMESTAMP_INFINITY DT_NOEND
#endif

/* 17: NOT NULL constraints are rows of pg_constraint */
#ifndef CONSTRAINT_NOTNULL
#define CONSTRAINT_NOTNULL 'n'
#endif

/* 18: a library says its name and version */
#if PG_VERSION_NUM >= 180000
#define QUEUE_MODULE_MAGIC(module, release) \
	PG_MODULE_MAGIC_EXT(.name = module, .version = release)
#else
#define QUEUE_MODULE_MAGIC(module, release) PG_MODULE_MAGIC
#endif

/* 18: a NOT NULL constraint can be NOT VALID, and then there may be nulls that
 * pg_attribute.attnotnull says nothing of */
static inline bool
queue_column_may_have_nulls(TupleDesc desc, int i)
{
#if PG_VERSION_NUM >= 180000
	return TupleDescCompactAttr(desc, i)->attnullability != ATTNULLABLE_VALID;
#else
	return !TupleDescAttr(desc, i)->attnotnull;
#endif
}

/* 18: a copy of a row may leave room before it */
#if PG_VERSION_NUM >= 180000
#define COPY_EXTRA , Size extra
#else
#define COPY_EXTRA
#endif

/* 16: an update may touch summarizing indexes only, so what was a bool became
 * an enum, and inserting index entries takes one argument more; 19: they are
 * flags */
#if PG_VERSION_NUM < 160000
typedef bool TU_UpdateIndexes;
#define TU_None false
#endif
#if PG_VERSION_NUM < 190000
#define EIIT_IS_UPDATE (1<<0)
#define EIIT_ONLY_SUMMARIZING (1<<2)
#endif
#if PG_VERSION_NUM < 160000
#define ExecInsertIndexTuples(rri, estate, flags, slot, arbiters, \
							  specConflict) \
	ExecInsertIndexTuples(rri, slot, estate, \
						  ((flags) & EIIT_IS_UPDATE) != 0, false, \
						  specConflict, arbiters)
#elif PG_VERSION_NUM < 190000
#define ExecInsertIndexTuples(rri, estate, flags, slot, arbiters, \
							  specConflict) \
	ExecInsertIndexTuples(rri, slot, estate, \
						  ((flags) & EIIT_IS_UPDATE) != 0, false, \
						  specConflict, arbiters, \
						  ((flags) & EIIT_ONLY_SUMMARIZING) != 0)
#endif

/* What to tell ExecInsertIndexTuples() after an update */
static inline uint32
queue_update_flags(TU_UpdateIndexes indexes)
{
#if PG_VERSION_NUM >= 160000
	if (indexes == TU_Summarizing)
		return EIIT_IS_UPDATE | EIIT_ONLY_SUMMARIZING;
#endif
	return EIIT_IS_UPDATE;
}

/*
 * 17: places where a test can stop a process, on a server that was built with
 * injection points; nothing anywhere else.  18: they take an argument, and one
 * where nothing may be allocated is loaded before
 */
#if PG_VERSION_NUM >= 170000
#include "utils/injection_point.h"
#endif
#if PG_VERSION_NUM < 180000 || !defined(USE_INJECTION_POINTS)
#undef INJECTION_POINT
#undef INJECTION_POINT_LOAD
#undef INJECTION_POINT_CACHED
#ifdef USE_INJECTION_POINTS
#define INJECTION_POINT(name, arg) InjectionPointRun(name)
#else
#define INJECTION_POINT(name, arg) ((void) 0)
#endif
#define INJECTION_POINT_LOAD(name) ((void) 0)
#define INJECTION_POINT_CACHED(name, arg) ((void) 0)
#endif

/* 19: of which transactions */
#if PG_VERSION_NUM >= 190000
#define queue_oldest_active_xid()	GetOldestActiveTransactionId(false, true)
#else
#define queue_oldest_active_xid()	GetOldestActiveTransactionId()
#endif

/*
 * Declared in libpq/libpq.h, which cannot be included without the headers of
 * GSSAPI where the server is built with it, and those come with no package of
 * the server.
 */
extern bool pq_check_connection(void);

#endif							/* QUEUE_COMPAT_H */
