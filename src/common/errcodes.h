/*-------------------------------------------------------------------------
 *
 * errcodes.h
 *		SQLSTATEs of our own, class QU (docs/reference.md lists them).
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_ERRCODES_H
#define QUEUE_ERRCODES_H

#define ERRCODE_QUEUE_LEASE_LOST		MAKE_SQLSTATE('Q', 'U', '0', '0', '1')
#define ERRCODE_QUEUE_PAUSED			MAKE_SQLSTATE('Q', 'U', '0', '0', '2')
#define ERRCODE_QUEUE_FULL				MAKE_SQLSTATE('Q', 'U', '0', '0', '3')
#define ERRCODE_QUEUE_INVALID_RECEIPT	MAKE_SQLSTATE('Q', 'U', '0', '0', '4')
#define ERRCODE_QUEUE_DUPLICATE_IN_PROGRESS	MAKE_SQLSTATE('Q', 'U', '0', '0', '5')
#define ERRCODE_QUEUE_MESSAGES_GONE		MAKE_SQLSTATE('Q', 'U', '0', '0', '6')

#endif							/* QUEUE_ERRCODES_H */
