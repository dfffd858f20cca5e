/*-------------------------------------------------------------------------
 *
 * def_cache.h
 *		What each session keeps of the tables it uses, until they change.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_DEF_CACHE_H
#define QUEUE_DEF_CACHE_H

#include "utils/hsearch.h"

#include "table/member.h"

/*
 * What a definition begins with.  Entries live as long as the backend; an
 * invalidation only clears is_valid, so a pointer stays readable.
 */
typedef struct DefHead
{
	Oid			relid;			/* hash key */
	bool		is_valid;
	bool		is_stale;		/* invalidated while it was being built */
} DefHead;

/* That a struct begins so, because it is used by other names, too */
#define DEF_BEGINS_WITH_HEAD(type) \
	StaticAssertDecl(offsetof(type, relid) == offsetof(DefHead, relid) && \
					 offsetof(type, is_valid) == offsetof(DefHead, is_valid) && \
					 offsetof(type, is_stale) == offsetof(DefHead, is_stale), \
					 "definition begins with its head")

/* Definitions of one kind of tables */
typedef struct DefCache
{
	const char *name;
	Size		size;			/* of a definition */
	MemberTable settings;		/* when this changes, all are out of date */
	HTAB	   *defs;			/* made on first use */
	struct DefCache *next;
} DefCache;

/* Follow changes; from _PG_init(), in every backend */
extern void queue_def_cache_register(DefCache *cache);

/* The definition of a table, made without anything in it; or NULL */
extern void *queue_def_cache_enter(DefCache *cache, Oid relid);
extern void *queue_def_cache_find(DefCache *cache, Oid relid);

/* For what definitions point at; it lives as long as the backend */
extern MemoryContext queue_def_cache_context(void);

/* A change of this relation is one of the table */
extern void queue_def_cache_note_part(Oid part, Oid relid);

/* Forget what all backends know of a table, at the commit */
extern void queue_def_invalidate(Oid relid);

/* What the relation is stored in, as this transaction sees it */
extern Oid	queue_def_file_of(Oid relid);

/* The number of ids that one step of the sequence stands for */
extern int64 queue_def_block_length(Oid sequence);

#endif							/* QUEUE_DEF_CACHE_H */
