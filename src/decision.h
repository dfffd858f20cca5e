/*-------------------------------------------------------------------------
 *
 * decision.h
 *		Decisions about global transactions, in the database that makes them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_DECISION_H
#define QUEUE_DECISION_H

/* ereport(ERROR, 08007) if this session's last commit may be lost with this
 * server, although it should be on others too */
extern void queue_decision_require_durable(void);

#endif							/* QUEUE_DECISION_H */
