/*-------------------------------------------------------------------------
 *
 * group.h
 *		Groups of messages that are delivered in order: whose turn is it?
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_GROUP_H
#define QUEUE_GROUP_H

#include "lib/ilist.h"
#include "lib/pairingheap.h"

#include "shared/due.h"
#include "shared/queue_slot.h"

/* What a message says of its group, by which memory knows it */
typedef struct GroupName
{
	uint64		hash;			/* never 0 */
	uint64		check;			/* another one, never 0 */
	int			length;
	const char *text;			/* not terminated; NULL: messages without key */
	bool		is_fair;		/* a group that takes turns with others */
} GroupName;

/*
 * Messages of a group that wait: "id", and perhaps others, all of which have
 * ids from "others" on.
 */
typedef struct GroupWait
{
	bool		is_empty;
	int			rank;			/* of the message "id", as far as is known */
	int64		id;
	int64		others;			/* beyond id; PG_INT64_MAX: there are none */
} GroupWait;

/*
 * What is known of a group that has messages in flight, or that wait for
 * others.  Guarded by the lock of its partition, the nodes of the slot by the
 * lock of the slot.
 */
typedef struct GroupEntry
{
	MessageKey	key;			/* must be first; its id is the hash */
	uint32		hashcode;		/* of the key */
	uint64		check;			/* 0: not known */
	QueueSlot  *slot;			/* hint: where the slot of the queue is */
	int			nmembers;
	dlist_head	members;		/* entries of the in-flight table that hold it */
	int			owner;			/* proc number of the session that may take
								 * more of it while it is held, or NO_PROC */
	uint64		owner_call;		/* ... in this call of receive() only; 0: in
								 * this transaction */
	int			looker;			/* has it out: proc number, or NO_PROC */
	GroupWait	wait;			/* what waits, but for what is out */
	GroupWait	out;			/* what the looker has out */
	struct GroupEntry *next_out;	/* of the looker */
	uint64		checked_by;		/* the look that found no message that comes
								 * before ...; fair: that it sees */
	int64		checked;		/* ... this one */
	uint64		fence;			/* changes when one of its messages is taken,
								 * or fails */
	TimestampTz until;			/* nothing is to be tried before */
	int64		delay;			/* the last one, if that was a guess */
	bool		is_fair;		/* it takes turns with others; else it is
								 * delivered in order */
	bool		is_keyless;		/* fair: the messages that have no key */
	int64		turn;			/* fair: the next group has the least */
	int64		number;			/* ... and of those the least of this, which
								 * counts how groups became ready */
	bool		keeps_place;	/* ... as it was not served in its turn */
	bool		is_ready;		/* in the heap of ready groups of ... */
	QueueSlot  *ready_slot;
	pairingheap_node ready;
	DueNode		waiting;		/* linked until "until" */
	dlist_node	node;			/* in the list of its partition */
	int			length;			/* of the key, GROUP_TEXT at most; -1: not
								 * known */
	char text[	GROUP_TEXT];
} GroupEntry;

/* A part of an entry of the in-flight table: the group that it holds */
typedef struct GroupMember
{
	GroupEntry *group;			/* NULL: none */
	dlist_node	link;
	const MessageKey *key;		/* of the message */
	uint64		fence;			/* of the group, when it failed last */
} GroupMember;

/* What is to become of a message */
typedef enum GroupTurn
{
	GROUP_OURS,					/* this process has the group out, and judges */
	GROUP_BEHIND,				/* noted: it waits for others of its group */
	GROUP_OUT,					/* another process has it out */
	GROUP_OTHER,				/* another group has the same hash */
	GROUP_FULL					/* no room in shared memory */
} GroupTurn;

extern Size queue_group_shmem_size(void);
extern void queue_group_shmem_init(void);
extern int	queue_group_nlocks(void);

/* How memory knows a group */
extern void queue_group_name(GroupName *name, const char *text, int length);

/* A number for a call of receive(); one that no call has */
#define QUEUE_NO_CALL	PG_UINT64_MAX

extern uint64 queue_group_new_call(void);

/* The same for messages of one rank in a queue whose groups take turns */
extern void queue_fair_name(GroupName *name, const char *text, int length,
							int rank);

/*
 * Groups are taken out and put back one after the other, as windows are.
 * "call" is 0 for a dequeue
 */
extern GroupTurn queue_group_enter(QueueSlot *slot, Oid relid,
								   const GroupName *name, int rank, int64 id,
								   uint64 call, GroupEntry **group);
extern GroupTurn queue_group_pick(QueueSlot *slot, Oid relid,
								  const GroupName *name, int rank, int64 id,
								  uint64 call, GroupEntry **group);
extern bool queue_group_note(QueueSlot *slot, Oid relid,
							 const GroupName *name, int rank, int64 id);
extern GroupEntry *queue_group_pop(QueueSlot *slot, Oid relid, int rank,
								   int64 id);
extern void queue_group_put_back(GroupEntry *group, const GroupWait *left,
								 TimestampTz until, bool wakes);
extern int64 queue_group_delay(GroupEntry *group);
extern void queue_group_add_below(GroupEntry *group, int64 id, RangeSet *set);
extern void queue_group_keep_out(GroupEntry *group, const GroupWait *left);
extern void queue_group_return(void);

/* group_fair.c: note a message, and perhaps others from "others" on */
extern GroupTurn queue_fair_note(QueueSlot *slot, Oid relid,
								 const GroupName *name, int rank, int64 id,
								 int64 others);
extern void queue_fair_charge(Oid relid, uint64 hash, int n);

/* Sets of waiting messages */
extern void queue_group_wait_init(GroupWait *wait);
extern void queue_group_wait_add(GroupWait *wait, int rank, int64 id,
								 int64 others);

/* An entry of the in-flight table holds its group, or does no longer */
extern void queue_group_join(GroupMember *member, GroupEntry *group,
							 uint64 call);
extern void queue_group_join_hash(GroupMember *member, const MessageKey *key,
								  uint64 hash, QueueSlot *slot);
extern bool queue_group_join_step(GroupMember *member, const MessageKey *key,
								  uint64 hash, QueueSlot *slot);
extern void queue_group_leave(GroupMember *member, bool gives_back, int rank,
							  TimestampTz until, bool wakes);
extern void queue_group_disown(GroupMember *member);
extern bool queue_group_next_member(const MessageKey *key, uint64 hash,
									MessageKey *next);

/* Leases on messages of groups that run out */
extern bool queue_group_rejoin(GroupMember *member, const MessageKey *key,
							   uint64 hash, bool *is_out);
extern void queue_group_move_fence(GroupMember *member);

/* Groups whose time has come; all that may be, at once; all, forgotten */
extern void queue_group_end_due(QueueSlot *slot, Oid relid, TimestampTz now);
extern void queue_group_recheck(Oid dbid);
extern void queue_group_try(const MessageKey *key);
extern void queue_group_drop(Oid dbid, Oid relid);

/* Is it known that this message waits, if_held also for others? */
extern bool queue_group_has(Oid relid, const GroupName *name, int64 id,
							bool if_held);

/* Did others note messages of groups that this session's transaction owns? */
extern bool queue_group_has_news(void);
extern void queue_group_clear_news(void);
extern bool queue_group_owned_wait(Oid relid, uint64 hash, GroupWait *wait);

/*
 * group_ask.c, for who shows it: add to a set what is known to wait before a
 * message; is it the turn of another group?
 */
extern void queue_group_add_waiting(Oid relid, const GroupName *name,
									int64 id, RangeSet *set);
extern bool queue_group_is_others_turn(QueueSlot *slot, Oid relid,
									   const GroupName *name);

/*
 * For the other files of groups: look an entry up, or make it
 * (NULL: no room), which locks its partition; add a member, or to what waits;
 * put the group where it belongs, which may remove it; unlink it from there
 */
extern void queue_group_key(MessageKey *key, Oid dbid, Oid relid,
							uint64 hash);
extern LWLock *queue_group_lock(GroupEntry *group);
extern GroupEntry *queue_group_find(const MessageKey *key, LWLock **lock);
extern GroupEntry *queue_group_make(const MessageKey *key, QueueSlot *slot,
									LWLock **lock);
extern bool queue_group_is_owned(const GroupEntry *group, uint64 call);
extern bool queue_group_is_crowded(void);
extern void queue_group_set_name(GroupEntry *group, const GroupName *name);
extern void queue_group_add_member(GroupEntry *group, GroupMember *member);
extern void queue_group_add(GroupEntry *group, int rank, int64 id,
							int64 others);
extern void queue_group_rest(GroupEntry *group, bool wakes);
extern void queue_group_unlink(GroupEntry *group);

/* group_ready.c: the heap of those that are ready.  The slot is locked */
extern void queue_group_link_ready(QueueSlot *slot, GroupEntry *group);
extern void queue_group_unlink_ready(QueueSlot *slot, GroupEntry *group);
extern GroupEntry *queue_group_first_ready(QueueSlot *slot);

#endif							/* QUEUE_GROUP_H */
