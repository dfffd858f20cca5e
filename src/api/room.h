/*-------------------------------------------------------------------------
 *
 * room.h
 *		Room in queues with limits, for senders.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_ROOM_H
#define QUEUE_ROOM_H

#include "common/compat.h"
#include "transaction/charge.h"

/* Why a message that finds no room does not wait */
typedef enum RoomRefusal
{
	ROOM_OF_SETTINGS,			/* on_full says so */
	ROOM_OF_TRANSACTION,		/* it has written something */
	ROOM_OF_STATEMENT,			/* it is a plain INSERT, or COPY */
	ROOM_OF_TIME				/* it has waited for long enough */
} RoomRefusal;

/*
 * Open a queue to send these messages, and count them; waits for room if the
 * queue says so, or raises QU003.  If there is none for a message whose key
 * another one has, *first is that one's id
 */
extern Relation queue_open_with_room(Oid relid, const Amount *amount,
									 const NullableDatum *dedup_key,
									 int64 *first, QueueDef **def);

pg_noreturn extern void queue_raise_full(QueueDef *def, const Amount *amount,
										 RoomRefusal refusal);

#endif							/* QUEUE_ROOM_H */
