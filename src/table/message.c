/*-------------------------------------------------------------------------
 *
 * message.c
 *		Messages as a consumer gets them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"

#include "common/compat.h"
#include "table/message.h"

/*
 * queue_message_result
 *		Return one row of a result.
 *
 * Its values are fetched from TOAST, so that it stands on its own when the
 * message is gone.  "receipt" is NULL if there is none.
 */
HeapTuple
queue_message_result(TupleDesc desc, MessageRow *row, int attempt,
					 const char *receipt)
{
	static const int columns[NUM_RESULT_VALUES] = {
		Anum_message_group_key, Anum_message_correlation_id,
		Anum_message_headers, Anum_message_payload, Anum_message_body,
		Anum_message_content_type
	};
	TupleTableSlot *slot = row->slot;
	ResultRow	result = {
		.id = row->id,
		.receipt = receipt,
		.attempt = attempt,
		.sent_at = row->enqueued_at,
		.priority = row->priority,
		.partition = NO_NUMBER
	};

	slot_getallattrs(slot);
	for (int i = 0; i < NUM_RESULT_VALUES; i++)
	{
		int			att = columns[i] - 1;

		if (slot->tts_isnull[att])
			continue;
		result.values[i] = PG_DETOAST_DATUM_PACKED(slot->tts_values[att]);
		result.room += VARSIZE_ANY(result.values[i]);
	}
	return queue_result_form(desc, &result);
}
