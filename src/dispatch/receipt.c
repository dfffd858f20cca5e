/*-------------------------------------------------------------------------
 *
 * receipt.c
 *		The handle of a lease, as text.
 *
 * It names database, queue and message, and the lease: a number never given
 * twice while shared memory lives, and 64 random bits drawn when that was
 * made.  Both are compared with the lease in memory, so a receipt of an ended
 * lease, of another server life or of a copy of the database fits nothing.
 * Users are told to treat it as opaque.
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
#define MAX_FIELD_DIGITS 16

static const char hex_digits[] = "0123456789abcdef";

static bool parse_fields(const char *p, const char *end, uint64 *fields);

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
	uint64		fields[RECEIPT_FIELDS] = {
		receipt->key.dbid, receipt->key.relid, (uint64) receipt->key.id,
		receipt->epoch, receipt->number
	};
	char	   *result = palloc(RECEIPT_FIELDS * (MAX_FIELD_DIGITS + 1));
	char	   *p = result;
	int			i;

	for (i = 0; i < RECEIPT_FIELDS; i++)
	{
		int			shift = fields[i] == 0 ? 0 :
			pg_leftmost_one_pos64(fields[i]) / 4 * 4;

		for (; shift >= 0; shift -= 4)
			*p++ = hex_digits[(fields[i] >> shift) & 0xf];
		*p++ = i < RECEIPT_FIELDS - 1 ? '-' : '\0';
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
	uint64		fields[RECEIPT_FIELDS];

	if (!parse_fields(start, start + VARSIZE_ANY_EXHDR(arg), fields) ||
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
}

/*
 * parse_fields
 *		Read hexadecimal fields with dashes between.
 *
 * Returns false unless there are exactly as many as there must be.
 */
static bool
parse_fields(const char *p, const char *end, uint64 *fields)
{
	int			i;

	for (i = 0; i < RECEIPT_FIELDS; i++)
	{
		int			digits = 0;

		fields[i] = 0;
		for (; p < end && *p != '-'; p++)
		{
			const char *digit = memchr(hex_digits, *p, 16);

			if (digit == NULL || ++digits > MAX_FIELD_DIGITS)
				return false;
			fields[i] = fields[i] * 16 + (digit - hex_digits);
		}
		if (digits == 0)
			return false;
		if (i < RECEIPT_FIELDS - 1)
		{
			if (p == end)
				return false;
			p++;
		}
	}
	return p == end;
}
