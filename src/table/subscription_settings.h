/*-------------------------------------------------------------------------
 *
 * subscription_settings.h
 *		The settings of subscriptions: table queue.subscription.
 *
 * How they are read and changed: setting_row.h, with MEMBER_SUBSCRIPTION.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SUBSCRIPTION_SETTINGS_H
#define QUEUE_SUBSCRIPTION_SETTINGS_H

/* Columns of queue.subscription */
#define Natts_subscription						14
#define Anum_subscription_subscription			1
#define Anum_subscription_topic					2
#define Anum_subscription_pattern				3
#define Anum_subscription_selector				4
#define Anum_subscription_on_failure			5
#define Anum_subscription_on_gap				6
#define Anum_subscription_idle_after			7
#define Anum_subscription_lease					8
#define Anum_subscription_max_attempts			9
#define Anum_subscription_retry_delay			10
#define Anum_subscription_retry_max_delay		11
#define Anum_subscription_dead_letter			12
#define Anum_subscription_own_dead_letter		13
#define Anum_subscription_paused				14

/* on_failure: what becomes of a message that failed max_attempts times */
#define SUBSCRIPTION_DEAD_LETTERS				"dead_letter"
#define SUBSCRIPTION_HOLDS						"hold"

/* on_gap: what a reader meets whose next messages were removed */
#define SUBSCRIPTION_FAILS						"error"
#define SUBSCRIPTION_SKIPS						"skip"

/* The longest lease; a constant, unlike max_lease of a queue */
#define SUBSCRIPTION_MAX_LEASE					USECS_PER_DAY

#endif							/* QUEUE_SUBSCRIPTION_SETTINGS_H */
