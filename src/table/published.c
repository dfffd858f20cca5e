/*-------------------------------------------------------------------------
 *
 * published.c
 *		Messages of a topic, as readers want them and get them.
 *
 * A message that was published has no priority, and a selector that asks for
 * one sees what a queue's messages have by default.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "catalog/pg_type.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "table/published.h"
#include "table/result.h"

/* What a selector sees where a queue's message has numbers */
#define READ_ATTEMPT		1
#define READ_PRIORITY		4

static Size find_values(HeapTupleHeader tuple, struct varlena **values);
static inline uint32 values_present(HeapTupleHeader tuple);
static inline HeapTuple stored_tuple(TupleTableSlot *slot);

/*
 * queue_published_start
 *		Return what a row begins with.
 *
 * To have the slot tell a column of it would cost as much as to read the row.
 */
const PublishedStart *
queue_published_start(TupleTableSlot *slot)
{
	return (const PublishedStart *) GETSTRUCT(stored_tuple(slot));
}

/* Return the row itself, which is still where it is stored. */
static inline HeapTuple
stored_tuple(TupleTableSlot *slot)
{
	Assert(TTS_IS_BUFFERTUPLE(slot));
	return ((BufferHeapTupleTableSlot *) slot)->base.tuple;
}

/* Returns true if some of a row is in TOAST. */
bool
queue_published_is_toasted(TupleTableSlot *slot)
{
	return HeapTupleHasExternal(stored_tuple(slot));
}

/* Return one column of a row. */
NullableDatum
queue_published_column(TupleTableSlot *slot, int att)
{
	NullableDatum result;

	result.value = slot_getattr(slot, att, &result.isnull);
	return result;
}

/* Does the reader want this message? */
bool
queue_published_is_wanted(TopicFilter *filter, TupleTableSlot *slot, int64 id)
{
	bool		has_pattern = filter->pattern != NULL &&
		!queue_pattern_is_any(filter->pattern);
	MemoryContext old;
	bool		result = true;

	if (!has_pattern && filter->selector == NULL)
		return true;
	old = MemoryContextSwitchTo(filter->context);
	if (has_pattern)
	{
		NullableDatum key = queue_published_column(slot,
												   Anum_published_routing_key);
		text	   *routing_key = DatumGetTextPP(key.value);

		result = queue_pattern_match(filter->pattern, VARDATA_ANY(routing_key),
									 VARSIZE_ANY_EXHDR(routing_key));
	}
	if (result && filter->selector != NULL)
	{
		SelectorInput input = {
			.id = id,
			.priority = READ_PRIORITY,
			.attempt = Max(filter->attempt, READ_ATTEMPT),
			.group_key = queue_published_column(slot, Anum_published_group_key),
			.correlation_id = queue_published_column(slot, Anum_published_correlation_id),
			.headers = queue_published_column(slot, Anum_published_headers),
			.payload = queue_published_column(slot, Anum_published_payload)
		};

		result = queue_selector_matches_input(filter->selector, &input);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(filter->context);
	return result;
}

/*
 * queue_published_show
 *		Add a message to a result.
 *
 * "receipt" is NULL if there is none.
 */
void
queue_published_show(ReturnSetInfo *rsinfo, TupleTableSlot *slot, int attempt,
					 const char *receipt)
{
	static const int columns[NUM_RESULT_VALUES] = {
		Anum_published_group_key, Anum_published_correlation_id,
		Anum_published_headers, Anum_published_payload, Anum_published_body,
		Anum_published_content_type
	};
	struct varlena *values[Natts_published + 1];
	HeapTuple	tuple = stored_tuple(slot);
	PublishedStart *start = (PublishedStart *) GETSTRUCT(tuple);
	ResultRow	row;

	row.room = find_values(tuple->t_data, values);
	row.id = start->id;
	row.receipt = receipt;
	row.attempt = attempt;
	row.sent_at = start->published_at;
	row.priority = NO_NUMBER;
	for (int i = 0; i < NUM_RESULT_VALUES; i++)
		row.values[i] = values[columns[i]];
	row.partition = start->partition;
	row.routing_key = values[Anum_published_routing_key];
	queue_result_put(rsinfo->setResult, rsinfo->setDesc, &row);
}

/*
 * find_values
 *		Find the columns of variable size, by their numbers, fetched from TOAST
 *		where they are there; NULL: it is null.  Return how large those are that
 *		results have, which is all but the sender.
 *
 * All columns behind those that a row begins with are of this kind, and most of
 * them are null.
 */
static Size
find_values(HeapTupleHeader tuple, struct varlena **values)
{
	uint32		present = values_present(tuple);
	char	   *start = (char *) tuple + tuple->t_hoff;
	Size		off = offsetof(PublishedStart, published_at) + sizeof(TimestampTz);
	Size		size = 0;

	memset(values, 0, (Natts_published + 1) * sizeof(struct varlena *));
	for (; present != 0; present &= present - 1)
	{
		int			att = pg_rightmost_one_pos32(present) + 1;
		struct varlena *value;

		off = att_align_pointer(off, TYPALIGN_INT, -1, start + off);
		value = (struct varlena *) (start + off);
		off += VARSIZE_ANY(value);
		values[att] = VARATT_IS_EXTERNAL(value) ? detoast_attr(value) : value;
		if (att != Anum_published_sender)
			size += VARSIZE_ANY(values[att]);
	}
	return size;
}

/* Return which of them are not null, a bit each; the first column has bit 0. */
static inline uint32
values_present(HeapTupleHeader tuple)
{
	int			natts = Min(HeapTupleHeaderGetNatts(tuple), Natts_published);
	uint32		present = (1 << natts) - (1 << Anum_published_at);

	StaticAssertStmt(Natts_published <= 2 * BITS_PER_BYTE,
					 "two bytes of a null bitmap are read");
	Assert(natts >= Anum_published_at);
	if ((tuple->t_infomask & HEAP_HASNULL) != 0)
		present &= tuple->t_bits[0] | tuple->t_bits[1] << BITS_PER_BYTE;
	return present;
}
