/*-------------------------------------------------------------------------
 *
 * choice.h
 *		Settings of a queue that are one of a few words.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_CHOICE_H
#define QUEUE_CHOICE_H

/* on_expiry: what becomes of a message that nobody took in time */
typedef enum ExpiryAction
{
	EXPIRY_DEAD_LETTER,
	EXPIRY_DISCARD
} ExpiryAction;

/* group_mode: what the group key of a message means */
typedef enum GroupMode
{
	GROUP_ORDERED,				/* one after the other */
	GROUP_FAIR,					/* groups take turns */
	GROUP_NONE					/* a label */
} GroupMode;

/* group_failure: what an exhausted message means for its group */
typedef enum GroupFailure
{
	GROUP_FAILURE_DEAD_LETTER,	/* it goes, the group goes on */
	GROUP_FAILURE_HOLD			/* the group stops */
} GroupFailure;

/* on_full: what a sender meets at the limits of a queue */
typedef enum FullAction
{
	FULL_ERROR,
	FULL_WAIT
} FullAction;

/*
 * Which of the words of a setting (Anum_settings_xxx) is this?  -1: none of
 * them
 */
extern int	queue_choice_find(int attnum, const char *word);

/* The word that a queue has unless told otherwise */
extern const char *queue_choice_default(int attnum);

/* All of them, as "error, wait" */
extern char *queue_choice_list(int attnum);

#endif							/* QUEUE_CHOICE_H */
