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

#include "utils/builtins.h"

#include "table/message.h"
#include "table/published.h"
#include "table/topic_column.h"

/* What a selector sees where a queue's message has numbers */
#define READ_ATTEMPT		1
#define READ_PRIORITY		4

static Datum stored_here(TupleTableSlot *slot, int att, bool *isnull);

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
	static const int columns[] = {
		Anum_published_group_key, Anum_published_correlation_id,
		Anum_published_headers, Anum_published_payload, Anum_published_body,
		Anum_published_content_type
	};
	Datum		values[Natts_result] = {0};
	bool		nulls[Natts_result] = {0};

	slot_getallattrs(slot);
	values[0] = slot->tts_values[Anum_published_id - 1];
	nulls[1] = receipt == NULL;
	if (receipt != NULL)
		values[1] = CStringGetTextDatum(receipt);
	values[2] = Int32GetDatum(attempt);
	values[3] = slot->tts_values[Anum_published_at - 1];
	nulls[4] = true;			/* priority */
	for (int i = 0; i < lengthof(columns); i++)
		values[5 + i] = stored_here(slot, columns[i], &nulls[5 + i]);
	values[11] = slot->tts_values[Anum_published_partition - 1];
	values[12] = stored_here(slot, Anum_published_routing_key, &nulls[12]);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* Return a value, fetched from TOAST if it is there. */
static Datum
stored_here(TupleTableSlot *slot, int att, bool *isnull)
{
	Datum		value = slot->tts_values[att - 1];

	*isnull = slot->tts_isnull[att - 1];
	if (*isnull || !VARATT_IS_EXTERNAL(DatumGetPointer(value)))
		return value;
	return PointerGetDatum(PG_DETOAST_DATUM(value));
}
