/*-------------------------------------------------------------------------
 *
 * settling.h
 *		Leases that are about to be settled, of messages and of partitions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SETTLING_H
#define QUEUE_SETTLING_H

#include "common/compat.h"
#include "dispatch/receipt.h"

/*
 * Begin to settle a lease: room for a hold is reserved, and the caller pushes
 * one if NULL is returned.  Otherwise that is a sentence that says why not
 */
extern const char *queue_settling_begin(const Receipt *receipt,
										InflightEntry **entry,
										SettleResult *result);

/* What to say of a lease that nothing is remembered of, unless a row tells */
extern const char *queue_settling_lost(const Receipt *receipt);

/* Is another transaction in the way, so that it can be tried again? */
extern bool queue_settling_is_busy(SettleResult result);

/* QU001: the lease is not, or not any more, the caller's */
pg_noreturn extern void queue_settling_report_lost(const Receipt *receipt,
												   const char *detail);

/* 55P03: another transaction is in the way */
pg_noreturn extern void queue_settling_report_busy(const Receipt *receipt,
												   const char *detail);

#endif							/* QUEUE_SETTLING_H */
