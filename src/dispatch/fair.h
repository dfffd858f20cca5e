/*-------------------------------------------------------------------------
 *
 * fair.h
 *		A look at a queue whose groups take turns.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_FAIR_H
#define QUEUE_FAIR_H

#include "dispatch/look.h"

/*
 * Windows of messages whose turn it is, of which "want" are wanted, one after
 * another, as queue_look_window() and queue_look_give_back() have them
 */
extern bool queue_fair_window(CandidateScan *look, Snapshot snapshot,
							  int64 want);
extern void queue_fair_give_back(CandidateScan *look, int ntaken, int64 want);

#endif							/* QUEUE_FAIR_H */
