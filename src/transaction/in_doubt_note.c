/*-------------------------------------------------------------------------
 *
 * in_doubt_note.c
 *		What prepared transactions have done to queues, on disk.
 *
 * The registry (prepared.c) is lost with the server.  So before PREPARE the
 * transaction writes down, for each queue, how many messages it has sent, taken,
 * settled and received, and between which ids (table/note_row.c).  View
 * queue.in_doubt shows the numbers after a restart or a promotion, without a look
 * at any queue.  Of topics the registry knows nothing: what was published is told
 * by what the publisher has written down (publishing_note.c), always.
 *
 * Nothing else goes by these rows.  Consumers ask the rows of the messages, and
 * what a plain DELETE holds is in no note.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "table/note_row.h"
#include "transaction/announce.h"
#include "transaction/holds.h"
#include "transaction/in_doubt_note.h"
#include "transaction/recovered.h"

/* In place of a partition of a topic */
#define queue_note_place(kind)	(-2 - (int) (kind))
#define queue_note_kind(place)	((PreparedHold) (-2 - (place)))

/* Notes of this transaction: one a queue and kind */
typedef struct Notes
{
	NoteRow    *rows;
	int			n;
	int			max;
} Notes;

/* A visitor of the registry, and who is in that */
typedef struct Visit
{
	PreparedVisitor visitor;
	void	   *arg;
	TransactionId *known;
	int			nknown;
	TransactionId last;			/* the visitor knows of it */
} Visit;

static void note_sent(Notes *notes, const PendingAnnounce *announce);
static void note_hold(Notes *notes, const Hold *hold);
static void add(Notes *notes, Oid relid, PreparedHold kind, int64 low,
				int64 high, int64 messages);
static void visit_row(const NoteRow *row, void *arg);

/* Write down what this transaction, which is about to be prepared, has done. */
void
queue_in_doubt_note_write(void)
{
	Notes		notes = {NULL, 0, 0};
	const PendingAnnounce *announces;
	Relation	rel;
	int			n;

	announces = queue_announce_notes(&n);
	for (int i = 0; i < n; i++)
		note_sent(&notes, &announces[i]);
	for (int i = 0; i < queue_holds_count(); i++)
		note_hold(&notes, queue_hold_at(i));
	if (notes.n == 0)
		return;
	rel = queue_note_rows_open();
	for (int i = 0; rel != NULL && i < notes.n; i++)
		queue_note_row_write(rel, &notes.rows[i]);

	/*
	 * Give the lock back, as for a catalog: statements that change or drop
	 * this table should not have to wait for what only shows numbers.
	 */
	if (rel != NULL)
		table_close(rel, RowExclusiveLock);
	pfree(notes.rows);
}

/* Note what was sent to a queue, unless nobody has counted it. */
static void
note_sent(Notes *notes, const PendingAnnounce *announce)
{
	const RangeSet *sent = &announce->sent;

	if (announce->is_all || announce->nmessages == 0)
		return;
	for (int i = 0; i < sent->nranges; i++)
		add(notes, announce->relid, PREPARED_SENT, sent->ranges[i].low,
			sent->ranges[i].high, i == 0 ? announce->nmessages : 0);
}

/* Note a message that was taken, received, or whose lease was settled. */
static void
note_hold(Notes *notes, const Hold *hold)
{
	PreparedHold kind = PREPARED_DEQUEUED;

	if (hold->kind == HOLD_LEASE)
		kind = PREPARED_RECEIVED;
	else if (hold->kind != HOLD_DEQUEUE && hold->kind != HOLD_SETTLE)
		return;
	else if (hold->entry->state == INFLIGHT_LEASED)
		kind = PREPARED_SETTLED;
	add(notes, hold->key.relid, kind, hold->key.id, hold->key.id, 1);
}

/* Add messages to the note of a queue and kind; that of before, mostly. */
static void
add(Notes *notes, Oid relid, PreparedHold kind, int64 low, int64 high,
	int64 messages)
{
	NoteRow    *row;

	for (int i = notes->n - 1; i >= 0; i--)
	{
		row = &notes->rows[i];
		if (row->relid != relid || row->partition != queue_note_place(kind))
			continue;
		row->first = Min(row->first, low);
		row->last = Max(row->last, high);
		row->messages += messages;
		return;
	}
	if (notes->n == notes->max)
	{
		notes->max = Max(2 * notes->max, 8);
		if (notes->rows == NULL)
			notes->rows = palloc(notes->max * sizeof(NoteRow));
		else
			notes->rows = repalloc_huge(notes->rows,
										(Size) notes->max * sizeof(NoteRow));
	}
	row = &notes->rows[notes->n++];
	row->xid = InvalidTransactionId;
	row->relid = relid;
	row->partition = queue_note_place(kind);
	row->first = low;
	row->last = high;
	row->messages = messages;
	row->since = GetCurrentTransactionStartTimestamp();
}

/* Show what the registry does not know, in this database. */
void
queue_in_doubt_note_visit(PreparedVisitor visitor, void *arg)
{
	Visit		visit = {.visitor = visitor,.arg = arg};

	/* the primary's transactions are none of a standby's */
	if (RecoveryInProgress())
		return;
	visit.known = palloc(Max(queue_prepared_max(), 1) * sizeof(TransactionId));
	visit.nknown = queue_prepared_xids(visit.known);
	queue_note_rows_visit(visit_row, &visit);
	pfree(visit.known);
}

/*
 * visit_row
 *		Visitor of the rows: pass on those of topics, and of queues those of
 *		transactions that nobody knows.
 */
static void
visit_row(const NoteRow *row, void *arg)
{
	Visit	   *visit = arg;
	bool		is_topic = row->partition > queue_note_place(0);
	bool		is_known = false;

	for (int i = 0; i < visit->nknown && !is_known; i++)
		is_known = visit->known[i] == row->xid;

	/* not old: one that is just being prepared */
	if (row->partition < queue_note_place(NPREPARED_HOLDS - 1) ||
		(!is_topic && (is_known || !queue_recovered_is_old(row->xid))))
		return;
	if (!is_known && visit->last != row->xid)
		visit->visitor(row->xid, MyDatabaseId, InvalidOid, PREPARED_SENT, 0,
					   visit->arg);
	visit->last = row->xid;
	visit->visitor(row->xid, MyDatabaseId, row->relid,
				   is_topic ? PREPARED_SENT : queue_note_kind(row->partition),
				   row->messages, visit->arg);
}
