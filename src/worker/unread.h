/*-------------------------------------------------------------------------
 *
 * unread.h
 *		What is kept in a topic for its subscriptions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_UNREAD_H
#define QUEUE_UNREAD_H

#include "table/topic.h"

/*
 * From which id on each partition has what a subscription has not passed;
 * PG_INT64_MAX: there is none
 */
extern void queue_unread_from(TopicDef *topic, int64 *from);

#endif							/* QUEUE_UNREAD_H */
