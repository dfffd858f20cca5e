/*-------------------------------------------------------------------------
 *
 * def_cache.c
 *		What each session keeps of the tables it uses, until they change.
 *
 * Every call on a queue or a topic needs its settings, and has to know that the
 * table is still within the white list (shape.c).  Neither may cost a look into
 * the catalogs each time.  So both are kept in a hash table for the life of the
 * backend, and a relcache callback marks what is out of date.  The relation
 * cache is the right thing to follow, because all that the white list speaks
 * of invalidates it.  A transaction that writes a settings row sends the same
 * invalidation for the table (queue_def_invalidate).  The callback may run
 * within any catalog access, so it touches nothing but flags.
 *
 * Only good news is kept.  A table beyond the white list is looked at again by
 * each call, because some ways back (the last child of an inheritance parent
 * is dropped) send no invalidation for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_sequence.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "common/compat.h"
#include "table/def_cache.h"
#include "table/setting_row.h"

/*
 * The table that a sequence or a key table belongs to, so that a change or the
 * loss of either is noticed
 */
typedef struct PartOwner
{
	Oid			part;			/* hash key */
	Oid			relid;
} PartOwner;

/* One a kind of tables, and PartOwner by part; made on first use */
static DefCache *caches = NULL;
static HTAB *part_owners = NULL;
static MemoryContext defs_context = NULL;

static void forget_defs(Datum arg, Oid relid);
static void forget_one(DefHead *def);


/* Follow changes; from _PG_init(), in every backend. */
void
queue_def_cache_register(DefCache *cache)
{
	if (caches == NULL)
		CacheRegisterRelcacheCallback(forget_defs, (Datum) 0);
	cache->next = caches;
	caches = cache;
}

/* Return the memory for what definitions point at. */
MemoryContext
queue_def_cache_context(void)
{
	if (defs_context == NULL)
		defs_context = AllocSetContextCreate(TopMemoryContext,
											 "queue definitions",
											 ALLOCSET_SMALL_SIZES);
	return defs_context;
}

/*
 * queue_def_cache_enter
 *		Return the definition of a table; if it was not there, it has nothing
 *		but its relid.
 *
 * What is missing is made, also after an error half-way.
 */
void *
queue_def_cache_enter(DefCache *cache, Oid relid)
{
	DefHead    *def;
	bool		found;

	if (cache->defs == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.hcxt = queue_def_cache_context();
		ctl.keysize = sizeof(Oid);
		if (part_owners == NULL)
		{
			ctl.entrysize = sizeof(PartOwner);
			part_owners = hash_create("parts of queues", 32, &ctl,
									  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		}
		ctl.entrysize = cache->size;
		cache->defs = hash_create(cache->name, 32, &ctl,
								  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	def = hash_search(cache->defs, &relid, HASH_ENTER, &found);
	if (!found)
	{
		memset(def, 0, cache->size);
		def->relid = relid;
	}
	return def;
}

/* Return the definition of a table, NULL if there is none. */
void *
queue_def_cache_find(DefCache *cache, Oid relid)
{
	return cache->defs == NULL ? NULL :
		hash_search(cache->defs, &relid, HASH_FIND, NULL);
}

/* Note that a change of this relation is one of the table. */
void
queue_def_cache_note_part(Oid part, Oid relid)
{
	PartOwner  *owner;

	if (!OidIsValid(part))
		return;
	owner = hash_search(part_owners, &part, HASH_ENTER, NULL);
	owner->relid = relid;
}

/*
 * forget_defs
 *		Relcache callback: mark definitions as out of date.
 *
 * May run at any lock acquisition, so there is no catalog access and no
 * allocation, and no entry is removed.
 */
static void
forget_defs(Datum arg, Oid relid)
{
	PartOwner  *owner = NULL;

	if (part_owners != NULL && OidIsValid(relid))
		owner = hash_search(part_owners, &relid, HASH_FIND, NULL);

	for (DefCache *cache = caches; cache != NULL; cache = cache->next)
	{
		if (cache->defs == NULL)
			continue;
		if (!OidIsValid(relid) ||
			queue_setting_is_table(cache->settings, relid))
		{
			HASH_SEQ_STATUS status;
			DefHead    *def;

			hash_seq_init(&status, cache->defs);
			while ((def = hash_seq_search(&status)) != NULL)
				forget_one(def);
			continue;
		}
		forget_one(queue_def_cache_find(cache, owner != NULL ?
										owner->relid : relid));
	}
}

/* One of them, if it is there */
static void
forget_one(DefHead *def)
{
	if (def != NULL)
	{
		def->is_valid = false;
		def->is_stale = true;
	}
}

/*
 * queue_def_invalidate
 *		Forget what is cached about a table, in all backends when this
 *		transaction commits, in this one at once.
 *
 * To be followed by CommandCounterIncrement().  An invalidation that has not
 * been through that is not repeated if the transaction is rolled back, and a
 * definition built in between would stay.
 */
void
queue_def_invalidate(Oid relid)
{
	HeapTuple	tuple;

	forget_defs((Datum) 0, relid);

	/* the row may name a table that is gone, which cannot be cached */
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (HeapTupleIsValid(tuple))
	{
		CacheInvalidateRelcacheByTuple(tuple);
		ReleaseSysCache(tuple);
	}
}

/* Return what the relation is stored in, as this transaction sees it. */
Oid
queue_def_file_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			file = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		file = ((Form_pg_class) GETSTRUCT(tuple))->relfilenode;
		ReleaseSysCache(tuple);
	}
	return file;
}

/* Return the number of ids that one step of the sequence stands for. */
int64
queue_def_block_length(Oid sequence)
{
	HeapTuple	tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(sequence));
	int64		increment = 1;

	if (HeapTupleIsValid(tuple))
	{
		increment = ((Form_pg_sequence) GETSTRUCT(tuple))->seqincrement;
		ReleaseSysCache(tuple);
	}
	return Max(increment, 1);
}
