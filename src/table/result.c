/*-------------------------------------------------------------------------
 *
 * result.c
 *		Rows of the results that messages are returned in.
 *
 * To form them is a large part of what it costs to read many messages.
 * heap_form_tuple() goes over the values twice, with a call for each of them,
 * and asks of each what it is.  Here that is known: the columns are those that
 * the functions are declared with.
 *
 * A result keeps minimal tuples, and makes its own copy of any tuple that it is
 * given.  Of a slot it asks for a copy, wherever that comes from.  So a row that
 * can go there at once is handed over as a slot that forms it then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "executor/tuptable.h"

#include "common/compat.h"
#include "table/result.h"

/* Columns, in order */
typedef enum ResultColumn
{
	RESULT_ID,
	RESULT_RECEIPT,
	RESULT_ATTEMPT,
	RESULT_SENT_AT,
	RESULT_PRIORITY,
	RESULT_VALUES,				/* the first of them */
	RESULT_PARTITION = RESULT_VALUES + NUM_RESULT_VALUES,
	RESULT_ROUTING_KEY,
	NUM_RESULT_COLUMNS
} ResultColumn;

/* What a row begins with */
#define HEADER_SIZE \
	MAXALIGN(SizeofHeapTupleHeader + BITMAPLEN(NUM_RESULT_COLUMNS))

/*
 * Room for the five columns of fixed size, which are aligned to no more than an
 * int64, and to align the others.  What is not needed the tuplestore keeps
 */
#define FIXED_ROOM \
	(5 * sizeof(int64) + (NUM_RESULT_VALUES + 2) * (ALIGNOF_INT - 1))

/* A row that is being formed */
typedef struct Forming
{
	HeapTupleHeader header;
	char	   *p;				/* where the next value begins */
} Forming;

/* A row of which a copy can be had, and nothing else */
typedef struct ResultSlot
{
	TupleTableSlot base;
	const ResultRow *row;
} ResultSlot;

static MinimalTuple form_minimal(TupleTableSlot *slot COPY_EXTRA);
static Size form(HeapTupleHeader header, TupleDesc desc, const ResultRow *row);
static Size room_for(const ResultRow *row);
static void add_receipt(Forming *forming, const char *receipt);

/* Return the place of the next value, of this column. */
static inline char *
place(Forming *forming, ResultColumn column, Size align)
{
	forming->header->t_bits[column >> 3] |= 1 << (column & 7);
	while ((uintptr_t) forming->p % align != 0)
		*forming->p++ = 0;
	return forming->p;
}

static inline void
add_int64(Forming *forming, ResultColumn column, int64 value)
{
	*(int64 *) place(forming, column, ALIGNOF_DOUBLE) = value;
	forming->p += sizeof(int64);
}

static inline void
add_int32(Forming *forming, ResultColumn column, int32 value)
{
	*(int32 *) place(forming, column, ALIGNOF_INT) = value;
	forming->p += sizeof(int32);
}

static inline void
add_int16(Forming *forming, ResultColumn column, int16 value)
{
	*(int16 *) place(forming, column, ALIGNOF_SHORT) = value;
	forming->p += sizeof(int16);
}

/* Add a value of variable size, if there is one; short ones are not aligned. */
static inline void
add_value(Forming *forming, ResultColumn column, struct varlena *value)
{
	Size		size;

	if (value == NULL)
		return;
	Assert(!VARATT_IS_EXTERNAL(value));
	if (VARATT_IS_SHORT(value))
	{
		size = VARSIZE_SHORT(value);
		memcpy(place(forming, column, 1), value, size);
	}
	else if (VARATT_CAN_MAKE_SHORT(value))
	{
		char	   *p = place(forming, column, 1);

		size = VARATT_CONVERTED_SHORT_SIZE(value);
		SET_VARSIZE_SHORT(p, size);
		memcpy(p + 1, VARDATA(value), size - 1);
	}
	else
	{
		size = VARSIZE(value);
		memcpy(place(forming, column, ALIGNOF_INT), value, size);
	}
	forming->p += size;
}

/*
 * queue_result_form
 *		Form a row, in the current memory context.
 */
HeapTuple
queue_result_form(TupleDesc desc, const ResultRow *row)
{
	HeapTuple	tuple = palloc(HEAPTUPLESIZE + HEADER_SIZE + room_for(row));

	tuple->t_data = (HeapTupleHeader) ((char *) tuple + HEAPTUPLESIZE);
	memset(tuple->t_data, 0, HEADER_SIZE);
	tuple->t_len = form(tuple->t_data, desc, row);
	Assert(tuple->t_len <= HEADER_SIZE + room_for(row));
	ItemPointerSetInvalid(&tuple->t_self);
	tuple->t_tableOid = InvalidOid;
	HeapTupleHeaderSetDatumLength(tuple->t_data, tuple->t_len);
	HeapTupleHeaderSetTypeId(tuple->t_data, desc->tdtypeid);
	HeapTupleHeaderSetTypMod(tuple->t_data, desc->tdtypmod);
	ItemPointerSetInvalid(&tuple->t_data->t_ctid);
	return tuple;
}

/* Form a row, and add it to a result. */
void
queue_result_put(Tuplestorestate *result, TupleDesc desc, const ResultRow *row)
{
	static const TupleTableSlotOps ops = {.copy_minimal_tuple = form_minimal};
	ResultSlot	slot = {
		.base = {
			.type = T_TupleTableSlot,
			.tts_ops = &ops,
			.tts_tupleDescriptor = desc
		},
		.row = row
	};

	tuplestore_puttupleslot(result, &slot.base);
}

/* Form a row as a minimal tuple: TupleTableSlotOps.copy_minimal_tuple. */
static MinimalTuple
form_minimal(TupleTableSlot *slot COPY_EXTRA)
{
	const ResultRow *row = ((ResultSlot *) slot)->row;
	MinimalTuple tuple = palloc(HEADER_SIZE - MINIMAL_TUPLE_OFFSET +
								room_for(row));

	memset(tuple, 0, HEADER_SIZE - MINIMAL_TUPLE_OFFSET);
	tuple->t_len = form((HeapTupleHeader) ((char *) tuple - MINIMAL_TUPLE_OFFSET),
						slot->tts_tupleDescriptor, row) - MINIMAL_TUPLE_OFFSET;
	Assert(tuple->t_len + MINIMAL_TUPLE_OFFSET <= HEADER_SIZE + room_for(row));
	return tuple;
}

/*
 * form
 *		Form a row behind a header, which is all zeroes; return how long it is.
 *
 * Nothing is written to the part of the header that a minimal tuple lacks.  Some
 * column of each row is null.  A function that an older version of the extension
 * declared may lack the last two columns.
 */
static Size
form(HeapTupleHeader header, TupleDesc desc, const ResultRow *row)
{
	Forming		forming = {header, (char *) header + HEADER_SIZE};

	add_int64(&forming, RESULT_ID, row->id);
	if (row->receipt != NULL)
		add_receipt(&forming, row->receipt);
	add_int32(&forming, RESULT_ATTEMPT, row->attempt);
	add_int64(&forming, RESULT_SENT_AT, row->sent_at);
	if (row->priority != NO_NUMBER)
		add_int32(&forming, RESULT_PRIORITY, row->priority);
	for (int i = 0; i < NUM_RESULT_VALUES; i++)
		add_value(&forming, RESULT_VALUES + i, row->values[i]);
	if (desc->natts == NUM_RESULT_COLUMNS)
	{
		if (row->partition != NO_NUMBER)
			add_int16(&forming, RESULT_PARTITION, (int16) row->partition);
		add_value(&forming, RESULT_ROUTING_KEY, row->routing_key);
	}
	HeapTupleHeaderSetNatts(header, desc->natts);
	header->t_infomask = HEAP_HASVARWIDTH | HEAP_HASNULL;
	header->t_hoff = HEADER_SIZE;
	return forming.p - (char *) header;
}

/* Return how much room a row needs at most, behind the header. */
static Size
room_for(const ResultRow *row)
{
	Size		room = FIXED_ROOM + row->room;

	if (row->receipt != NULL)
		room += strlen(row->receipt) + VARHDRSZ;
	return room;
}

/* Add a receipt, which mostly has a short header. */
static void
add_receipt(Forming *forming, const char *receipt)
{
	Size		length = strlen(receipt);
	Size		size = length + VARHDRSZ_SHORT;
	char	   *p;

	if (size <= VARATT_SHORT_MAX)
	{
		p = place(forming, RESULT_RECEIPT, 1);
		SET_VARSIZE_SHORT(p, size);
		memcpy(p + VARHDRSZ_SHORT, receipt, length);
	}
	else
	{
		size = length + VARHDRSZ;
		p = place(forming, RESULT_RECEIPT, ALIGNOF_INT);
		SET_VARSIZE(p, size);
		memcpy(p + VARHDRSZ, receipt, length);
	}
	forming->p += size;
}
