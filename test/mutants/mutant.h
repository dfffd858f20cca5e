/*-------------------------------------------------------------------------
 *
 * mutant.h
 *		What the planted bugs of this folder need, and src has not.
 *
 * The compiler includes it ahead of every file when src is built with a bug
 * (test/stress/installation.py), so that no patch has to add an #include.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_MUTANT_H
#define QUEUE_MUTANT_H

#include "postgres.h"

#include "common/pg_prng.h"
#include "fmgr.h"
#include "storage/procarray.h"
#include "storage/shmem.h"

/*
 * Of utils/fmgrprotos.h only these, because it declares a function for each of
 * SQL, and some have names that files have for their own.
 */
extern Datum jsonb_concat(PG_FUNCTION_ARGS);
extern Datum jsonb_in(PG_FUNCTION_ARGS);

/*
 * One case in n.  It allocates nothing and cannot fail, so it may be used where
 * a transaction ends as well.
 */
#define SOMETIMES(n) \
	(pg_prng_uint64_range(&pg_global_prng_state, 1, (n)) == 1)

/* Damage a payload: some of its keys get other values. */
static inline void
mutant_change(Datum *payload, const char *keys)
{
	*payload = DirectFunctionCall2(jsonb_concat, *payload,
								   DirectFunctionCall1(jsonb_in,
													   CStringGetDatum(keys)));
}

#endif							/* QUEUE_MUTANT_H */
