/*-------------------------------------------------------------------------
 *
 * topic_settings.h
 *		The settings of topics: table queue.topic.
 *
 * How they are read and changed: setting_row.h, with MEMBER_TOPIC.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_TOPIC_SETTINGS_H
#define QUEUE_TOPIC_SETTINGS_H

/* Columns of queue.topic */
#define Natts_topic						5
#define Anum_topic_topic				1
#define Anum_topic_partitions			2
#define Anum_topic_retention			3
#define Anum_topic_max_bytes			4
#define Anum_topic_keep_unread			5

/* How many partitions a topic may have; a column of type smallint says which */
#define MAX_PARTITIONS					256

#endif							/* QUEUE_TOPIC_SETTINGS_H */
