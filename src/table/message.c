/*-------------------------------------------------------------------------
 *
 * message.c
 *		Messages as a consumer gets them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "utils/builtins.h"

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
	static const int columns[] = {
		Anum_message_group_key, Anum_message_correlation_id,
		Anum_message_headers, Anum_message_payload, Anum_message_body,
		Anum_message_content_type
	};
	Datum		values[Natts_result] = {0};
	bool		nulls[Natts_result] = {0};
	int			i;

	slot_getallattrs(row->slot);
	values[0] = Int64GetDatum(row->id);
	nulls[1] = receipt == NULL;
	if (receipt)
		values[1] = CStringGetTextDatum(receipt);
	values[2] = Int32GetDatum(attempt);
	values[3] = TimestampTzGetDatum(row->enqueued_at);
	values[4] = Int32GetDatum(row->priority);
	for (i = 0; i < lengthof(columns); i++)
	{
		int			att = columns[i] - 1;

		nulls[5 + i] = row->slot->tts_isnull[att];
		if (!nulls[5 + i])
			values[5 + i] =
				PointerGetDatum(PG_DETOAST_DATUM(row->slot->tts_values[att]));
	}
	nulls[11] = true;			/* partition */
	nulls[12] = true;			/* routing_key */
	return heap_form_tuple(desc, values, nulls);
}
