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
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"

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

/* Room for the columns of fixed size, however they are aligned */
#define FIXED_ROOM			(5 * MAXIMUM_ALIGNOF + sizeof(int64))

/* A row that is being formed */
typedef struct Forming
{
	HeapTupleHeader header;
	char	   *p;				/* where the next value begins */
} Forming;

static Size room_for(const ResultRow *row, Size receipt);
static void add_receipt(Forming *forming, const char *receipt, Size length);

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
 *
 * Some column of each is null.  A function that an older version of the extension
 * declared may lack the last two.
 */
HeapTuple
queue_result_form(TupleDesc desc, const ResultRow *row)
{
	int			hoff = MAXALIGN(SizeofHeapTupleHeader +
								BITMAPLEN(NUM_RESULT_COLUMNS));
	Size		receipt = row->receipt != NULL ? strlen(row->receipt) : 0;
	HeapTuple	tuple = palloc(HEAPTUPLESIZE + hoff + room_for(row, receipt));
	Forming		forming;

	forming.header = (HeapTupleHeader) ((char *) tuple + HEAPTUPLESIZE);
	forming.p = (char *) forming.header + hoff;
	memset(forming.header, 0, hoff);
	add_int64(&forming, RESULT_ID, row->id);
	if (row->receipt != NULL)
		add_receipt(&forming, row->receipt, receipt);
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

	tuple->t_len = forming.p - (char *) forming.header;
	ItemPointerSetInvalid(&tuple->t_self);
	tuple->t_tableOid = InvalidOid;
	tuple->t_data = forming.header;
	HeapTupleHeaderSetDatumLength(forming.header, tuple->t_len);
	HeapTupleHeaderSetTypeId(forming.header, desc->tdtypeid);
	HeapTupleHeaderSetTypMod(forming.header, desc->tdtypmod);
	ItemPointerSetInvalid(&forming.header->t_ctid);
	HeapTupleHeaderSetNatts(forming.header, desc->natts);
	forming.header->t_infomask = HEAP_HASVARWIDTH | HEAP_HASNULL;
	forming.header->t_hoff = hoff;
	return tuple;
}

/* Return how much room the values need at most. */
static Size
room_for(const ResultRow *row, Size receipt)
{
	Size		room = FIXED_ROOM + receipt + VARHDRSZ + ALIGNOF_INT;

	for (int i = 0; i < NUM_RESULT_VALUES; i++)
		if (row->values[i] != NULL)
			room += VARSIZE_ANY(row->values[i]) + ALIGNOF_INT;
	if (row->routing_key != NULL)
		room += VARSIZE_ANY(row->routing_key) + ALIGNOF_INT;
	return room;
}

/* Add a receipt, which mostly has a short header. */
static void
add_receipt(Forming *forming, const char *receipt, Size length)
{
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
