/*-------------------------------------------------------------------------
 *
 * passed.h
 *		Positions moved past what filters have passed over.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_PASSED_H
#define QUEUE_PASSED_H

#include "datatype/timestamp.h"

/* A duty of the worker */
extern TimestampTz queue_passed_due(void);
extern TimestampTz queue_passed_move(void);
extern void queue_passed_failed(void);

#endif							/* QUEUE_PASSED_H */
