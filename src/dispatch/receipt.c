/*-------------------------------------------------------------------------
 *
 * receipt.c
 *		The handle of a lease, as text.
 *
 * It names database, queue and message, and the lease: a number never given
 * twice while shared memory lives, and 64 random bits drawn when that was
 * made.  Both are compared with the lease in memory, so a receipt of an ended
 * lease, of another server life or of a copy of the database fits nothing.
 * Users are told to treat it as opaque.  One of a subscription names a partition
 * where others name a message, and then the message.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"

#include "common/compat.h"
#include "common/errcodes.h"
#include "dispatch/receipt.h"

#define RECEIPT_FIELDS	5
#define MAX_FIELDS		8		/* of one about a partition */
#define MAX_FIELD_DIGITS 16

static const char hex_digits[] = "0123456789abcdef";

static int	parse_fields(const char *p, const char *end, uint64 *fields);

/*
 * queue_receipt_format
 *		Return a receipt as text, palloc'd: hexadecimal fields with dashes
 *		between.
 *
 * Not by printf(), which would be a noticeable part of what a large batch
 * costs.
 */
char *
queue_receipt_format(const Receipt *receipt)
{
	uint64		fields[MAX_FIELDS] = {
		receipt->key.dbid, receipt->key.relid, (uint64) receipt->key.id,
		receipt->epoch, receipt->number,
		(uint64) receipt->message, (uint64) receipt->after, receipt->is_last
	};
	int			n = receipt->message != 0 ? MAX_FIELDS : RECEIPT_FIELDS;
	char	   *result = palloc(n * (MAX_FIELD_DIGITS + 1));
	char	   *p = result;
	int			i;

	for (i = 0; i < n; i++)
	{
		int			shift = fields[i] == 0 ? 0 :
			pg_leftmost_one_pos64(fields[i]) / 4 * 4;

		for (; shift >= 0; shift -= 4)
			*p++ = hex_digits[(fields[i] >> shift) & 0xf];
		*p++ = i < n - 1 ? '-' : '\0';
	}
	return result;
}

/*
 * queue_receipt_parse
 *		Read a receipt.
 *
 * Raises QU004 if the text is none, or one of another database.
 */
void
queue_receipt_parse(text *arg, Receipt *receipt)
{
	const char *start = VARDATA_ANY(arg);
	uint64		fields[MAX_FIELDS] = {0};
	int			n = parse_fields(start, start + VARSIZE_ANY_EXHDR(arg),
								 fields);

	if ((n != RECEIPT_FIELDS && n != MAX_FIELDS) ||
		(n == MAX_FIELDS && (fields[5] == 0 || fields[7] > 1)) ||
		fields[0] > PG_UINT32_MAX || fields[1] > PG_UINT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_QUEUE_INVALID_RECEIPT),
				 errmsg("invalid receipt"),
				 errdetail("The text is not a receipt."),
				 errhint("Pass the receipt column of queue.receive() unchanged.")));
	if ((Oid) fields[0] != MyDatabaseId)
		ereport(ERROR,
				(errcode(ERRCODE_QUEUE_INVALID_RECEIPT),
				 errmsg("invalid receipt"),
				 errdetail("The receipt was given out in another database."),
				 errhint("Settle a message in the database that it was received in.")));
	receipt->key.dbid = (Oid) fields[0];
	receipt->key.relid = (Oid) fields[1];
	receipt->key.id = (int64) fields[2];
	receipt->epoch = fields[3];
	receipt->number = fields[4];
	receipt->message = (int64) fields[5];
	receipt->after = (int64) fields[6];
	receipt->is_last = fields[7] != 0;
}

/*
 * parse_fields
 *		Read hexadecimal fields with dashes between.
 *
 * Returns how many there are, or -1 if that is more than there may be, or
 * something is no such field.
 */
static int
parse_fields(const char *p, const char *end, uint64 *fields)
{
	for (int n = 0; n < MAX_FIELDS; n++)
	{
		int			digits = 0;

		fields[n] = 0;
		for (; p < end && *p != '-'; p++)
		{
			const char *digit = memchr(hex_digits, *p, 16);

			if (digit == NULL || ++digits > MAX_FIELD_DIGITS)
				return -1;
			fields[n] = fields[n] * 16 + (digit - hex_digits);
		}
		if (digits == 0)
			return -1;
		if (p == end)
			return n + 1;
		p++;
	}
	return -1;
}
