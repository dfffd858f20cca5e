/*-------------------------------------------------------------------------
 *
 * answer.h
 *		Why a message is not delivered: what queue.why() returns.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_ANSWER_H
#define QUEUE_ANSWER_H

#include "common/who.h"
#include "shared/inflight.h"

typedef struct Answer
{
	const char *reason;			/* a word of docs/reference/why.md; NULL: none
								 * so far */
	TimestampTz since;			/* 0: not known */
	TimestampTz until;			/* 0: not known, or for ever */
	int			pid;			/* 0: nobody's doing, or not known */
	char	   *gid;			/* NULL: the same */
	char	   *explanation;	/* sentences */
	char	   *remedy;			/* SQL, or NULL */
} Answer;

/* What is asked about, and what the answer may say */
typedef struct Question
{
	Oid			relid;			/* the queue, topic or subscription */
	int64		id;
	bool		may_read;		/* keys of groups, by SELECT or as owner */
	TimestampTz now;
	char	   *literal;		/* its name, as SQL has it */
} Question;

/* The reason, and a sentence about it; one sentence more; the remedy */
extern void queue_answer(Answer *answer, const char *reason,
						 const char *format,...) pg_attribute_printf(3, 4);
extern void queue_answer_add(Answer *answer,
							 const char *format,...) pg_attribute_printf(2, 3);
extern void queue_answer_remedy(Answer *answer,
								const char *format,...) pg_attribute_printf(2, 3);

/*
 * It is this transaction's doing, or what "who" is: that, and the remedy.
 * Returns how a sentence begins that says what it does
 */
extern const char *queue_answer_xid(Answer *answer, TransactionId xid);
extern const char *queue_answer_who(Answer *answer, const Who *who);

/* This entry holds "what"; false: it does not */
extern bool queue_answer_held(Answer *answer, const InflightEntry *entry,
							  TimestampTz now, const char *what);

/* The table is beyond the white list; its sender has not ended */
extern void queue_answer_unfit(Answer *answer, const char *problem);
extern void queue_answer_coming(Answer *answer, TransactionId xid);

/* "once", "2 times" */
extern const char *queue_answer_times(int n);

/* A step of the worker is waited for; say so if there is none */
extern void queue_answer_worker(Answer *answer);

/* How many sessions wait for its messages; the last reasons there are */
extern void queue_answer_waiters(Answer *answer, QueueSlot *slot);

/* Somebody has locked the table against consumers; false: nobody has */
extern bool queue_answer_locked(Answer *answer, const Question *question);

#endif							/* QUEUE_ANSWER_H */
