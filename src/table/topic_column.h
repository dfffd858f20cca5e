/*-------------------------------------------------------------------------
 *
 * topic_column.h
 *		The columns of a topic table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_TOPIC_COLUMN_H
#define QUEUE_TOPIC_COLUMN_H

#include "datatype/timestamp.h"

#include "table/column.h"

/* In order */
#define Natts_published					11
#define Anum_published_partition		1
#define Anum_published_id				2
#define Anum_published_at				3
#define Anum_published_routing_key		4
#define Anum_published_group_key		5
#define Anum_published_correlation_id	6
#define Anum_published_content_type		7
#define Anum_published_sender			8
#define Anum_published_headers			9
#define Anum_published_payload			10
#define Anum_published_body				11

/* What a row begins with, by GETSTRUCT(): columns that are never null */
typedef struct PublishedStart
{
	int16		partition;
	int64		id;
	TimestampTz published_at;
} PublishedStart;

extern const QueueColumn queue_topic_columns[Natts_published];

#endif							/* QUEUE_TOPIC_COLUMN_H */
