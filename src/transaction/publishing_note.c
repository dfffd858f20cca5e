/*-------------------------------------------------------------------------
 *
 * publishing_note.c
 *		What prepared transactions have published, on disk.
 *
 * Shared memory knows who may still publish below which id (topic_slot.c), and
 * is lost with the server.  A prepared transaction is not.  So before PREPARE
 * the transaction writes down each registration (table/note_row.c).
 *
 * Without the table, as the extension is dropped, nobody could look for the
 * rows, and nobody reads topics.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"

#include "table/note_row.h"
#include "transaction/publishing_note.h"

/* What was written down of one topic */
typedef struct Recovered
{
	Oid			relid;
	RecoveredPublisher *publishers;
	int			n;
	int			max;
} Recovered;

static void add_publisher(const NoteRow *note, void *arg);

/*
 * queue_publishing_note_write
 *		Write down what this transaction, which is about to be prepared, has
 *		registered.  May throw.
 *
 * Nobody else changes what this transaction has registered.
 */
void
queue_publishing_note_write(const Publishing *publishings, int n)
{
	Relation	rel = queue_note_rows_open();

	if (rel == NULL)
		return;
	for (int i = 0; i < n; i++)
		for (int j = 0; j < publishings[i].n; j++)
		{
			const Registration *registration = publishings[i].registrations[j];
			NoteRow		note = {
				.relid = publishings[i].relid,
				.partition = registration->partition,
				.first = registration->first,
				.last = registration->greatest,
				.messages = registration->nids,
				.since = registration->since
			};

			queue_note_row_write(rel, &note);
		}
	table_close(rel, NoLock);
}

/*
 * queue_publishing_note_read
 *		Return what prepared transactions have registered in a topic.
 *
 * Nobody can register there while this looks for them, because the topic's slot
 * is closed.  So they are all of before the server started.
 */
RecoveredPublisher *
queue_publishing_note_read(Oid relid, int *n)
{
	Recovered	recovered = {.relid = relid,.max = 16};

	recovered.publishers = palloc(recovered.max * sizeof(RecoveredPublisher));
	queue_note_rows_visit(add_publisher, &recovered);
	*n = recovered.n;
	return recovered.publishers;
}

/* Visitor of what was written down: is it of this topic? */
static void
add_publisher(const NoteRow *note, void *arg)
{
	Recovered  *recovered = arg;
	RecoveredPublisher *publisher;

	if (note->relid != recovered->relid)
		return;
	if (recovered->n == recovered->max)
	{
		recovered->max *= 2;
		recovered->publishers = repalloc(recovered->publishers,
										 recovered->max *
										 sizeof(RecoveredPublisher));
	}
	publisher = &recovered->publishers[recovered->n++];
	publisher->xid = note->xid;
	publisher->partition = note->partition;
	publisher->first = note->first;
	publisher->greatest = note->last;
	publisher->nids = note->messages;
	publisher->since = note->since;
}
