/*-------------------------------------------------------------------------
 *
 * topic_draft.c
 *		A message of a topic before it is a row, and the columns it becomes.
 *
 * The partition of a message is that of its group_key, by a hash, so that those
 * of a group stay in order; else the id decides.  The hash is the server's,
 * which hash partitioning relies on not to change, either.  What has been
 * published stays in its partition whatever it would be now: the row says it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "table/draft.h"
#include "table/topic_draft.h"

/* Another one than the hashes of groups have (shared/group.c) */
#define PARTITION_SEED		UINT64CONST(0x746f706963000001)



/* Make the draft of a new message without anything in it. */
void
queue_topic_draft_init(TopicDraft *draft, TimestampTz published_at)
{
	static const NullableDatum none = {0, true};

	draft->partition = -1;
	draft->id = 0;
	draft->published_at = published_at;
	draft->routing_key.value = PointerGetDatum(cstring_to_text(""));
	draft->routing_key.isnull = false;
	draft->group_key = none;
	draft->correlation_id = none;
	draft->content_type = none;
	draft->sender = none;
	draft->headers = none;
	draft->payload = none;
	draft->body = none;
}

/*
 * queue_topic_draft_read
 *		Read a draft from a row that is inserted.
 *
 * A null in a column that only the server sets means what a new message has.
 */
void
queue_topic_draft_read(TopicDraft *draft, const Datum *values,
					   const bool *nulls)
{
	queue_topic_draft_init(draft, nulls[Anum_published_at - 1] ?
						   GetCurrentTimestamp() :
						   DatumGetTimestampTz(values[Anum_published_at - 1]));
	if (!nulls[Anum_published_partition - 1])
		draft->partition =
			DatumGetInt16(values[Anum_published_partition - 1]);
	if (!nulls[Anum_published_id - 1])
		draft->id = DatumGetInt64(values[Anum_published_id - 1]);
	if (!nulls[Anum_published_routing_key - 1])
		draft->routing_key.value = values[Anum_published_routing_key - 1];
	draft->group_key = queue_column_get(values, nulls, Anum_published_group_key);
	draft->correlation_id = queue_column_get(values, nulls, Anum_published_correlation_id);
	draft->content_type = queue_column_get(values, nulls, Anum_published_content_type);
	draft->sender = queue_column_get(values, nulls, Anum_published_sender);
	draft->headers = queue_column_get(values, nulls, Anum_published_headers);
	draft->payload = queue_column_get(values, nulls, Anum_published_payload);
	draft->body = queue_column_get(values, nulls, Anum_published_body);
}

/*
 * queue_topic_draft_columns
 *		Fill in the columns of the row: Natts_published values each.
 */
void
queue_topic_draft_columns(const TopicDraft *draft, Datum *values, bool *nulls)
{
	queue_column_set(values, nulls, Anum_published_partition,
					 Int16GetDatum(draft->partition));
	queue_column_set(values, nulls, Anum_published_id, Int64GetDatum(draft->id));
	queue_column_set(values, nulls, Anum_published_at,
					 TimestampTzGetDatum(draft->published_at));
	queue_column_set_nullable(values, nulls, Anum_published_routing_key,
							  draft->routing_key);
	queue_column_set_nullable(values, nulls, Anum_published_group_key, draft->group_key);
	queue_column_set_nullable(values, nulls, Anum_published_correlation_id,
							  draft->correlation_id);
	queue_column_set_nullable(values, nulls, Anum_published_content_type,
							  draft->content_type);
	queue_column_set_nullable(values, nulls, Anum_published_sender, draft->sender);
	queue_column_set_nullable(values, nulls, Anum_published_headers, draft->headers);
	queue_column_set_nullable(values, nulls, Anum_published_payload, draft->payload);
	queue_column_set_nullable(values, nulls, Anum_published_body, draft->body);
}

/*
 * queue_topic_draft_partition
 *		Return the partition that the group_key means, -1 if there is none.
 */
int
queue_topic_draft_partition(const TopicDraft *draft, int partitions)
{
	text	   *key;
	uint64		hash;

	if (draft->group_key.isnull)
		return -1;
	key = DatumGetTextPP(draft->group_key.value);
	hash = hash_bytes_extended((unsigned char *) VARDATA_ANY(key),
							   VARSIZE_ANY_EXHDR(key), PARTITION_SEED);
	return (int) (hash % (uint64) partitions);
}

/*
 * queue_topic_draft_check
 *		Raise 22023 for what no message may have, 22004 for what it may not
 *		lack, 54000 for one that could not be read.
 */
void
queue_topic_draft_check(const TopicDraft *draft)
{
	const NullableDatum *values[] = {
		&draft->payload, &draft->body, &draft->headers, &draft->routing_key,
		&draft->group_key, &draft->correlation_id, &draft->content_type
	};

	queue_check_content(draft->payload, draft->body);
	queue_check_routing_key(draft->routing_key.value);
	if (!draft->group_key.isnull)
		queue_check_group_key(draft->group_key.value);
	if (!draft->correlation_id.isnull)
		queue_check_correlation_id(draft->correlation_id.value);
	if (!draft->headers.isnull)
		queue_check_headers(draft->headers.value);
	queue_check_size(values, lengthof(values));
}
