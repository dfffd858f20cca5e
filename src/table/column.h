/*-------------------------------------------------------------------------
 *
 * column.h
 *		The columns of a queue table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_COLUMN_H
#define QUEUE_COLUMN_H

/* In order */
#define Natts_message					15
#define Anum_message_id					1
#define Anum_message_priority			2
#define Anum_message_failures			3
#define Anum_message_enqueued_at		4
#define Anum_message_visible_at			5
#define Anum_message_expires_at			6
#define Anum_message_group_key			7
#define Anum_message_correlation_id		8
#define Anum_message_dedup_key			9
#define Anum_message_sender				10
#define Anum_message_content_type		11
#define Anum_message_headers			12
#define Anum_message_payload			13
#define Anum_message_body				14
#define Anum_message_failure_log		15

/* What gives a column its value */
typedef enum ColumnSetter
{
	COLUMN_OF_SERVER,			/* the server; the owner may in INSERT */
	COLUMN_OF_SENDER,			/* the sender of the message; nothing later */
	COLUMN_OF_ANYBODY			/* any role that may INSERT or UPDATE */
} ColumnSetter;

typedef struct QueueColumn
{
	const char *name;
	Oid			type;
	const char *type_name;		/* for CREATE TABLE */
	bool		is_not_null;
	ColumnSetter setter;
} QueueColumn;

extern const QueueColumn queue_message_columns[Natts_message];

/* Which column is this? */
extern const QueueColumn *queue_column(int attnum);

#endif							/* QUEUE_COLUMN_H */
