/*-------------------------------------------------------------------------
 *
 * subscription_column.h
 *		The columns of a subscription table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SUBSCRIPTION_COLUMN_H
#define QUEUE_SUBSCRIPTION_COLUMN_H

#include "table/column.h"

/* In order; one row a partition of the topic */
#define Natts_position					6
#define Anum_position_partition			1
#define Anum_position_position			2	/* it is done with all up to this
											 * id */
#define Anum_position_failures			3	/* of the first wanted message
											 * after */
#define Anum_position_alone_until		4	/* the last of those that failed
											 * with it */
#define Anum_position_failure_log		5
#define Anum_position_moved_at			6

extern const QueueColumn queue_subscription_columns[Natts_position];

#endif							/* QUEUE_SUBSCRIPTION_COLUMN_H */
