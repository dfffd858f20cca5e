/*-------------------------------------------------------------------------
 *
 * receipt.c
 *		Any text as a receipt.
 *
 * It is read if and only if it has five hexadecimal fields that are not too
 * long, or eight, and is of this database; what was read is written as it was,
 * but for leading zeros.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "common/compat.h"
#include "common/errcodes.h"
#include "dispatch/receipt.h"
#include "fuzz.h"

#define NUM_FIELDS	5
#define MAX_FIELDS	8			/* of one about a message of a subscription */

/*
 * Reads it another way.  Returns how many fields it has, or 0 if it is none;
 * then "plain" is undefined, otherwise it is without leading zeros.
 */
static int
read_plainly(const char *text, size_t size, char *plain, uint64 *fields)
{
	char		copy[256];
	char	   *field = copy;
	int			n = 1;
	int			i;

	if (size >= sizeof(copy) || memchr(text, '\0', size) != NULL)
		return 0;
	memcpy(copy, text, size);
	copy[size] = '\0';
	*plain = '\0';
	for (i = 0; i < (int) size; i++)
		n += text[	i] == '-';

	if (n != NUM_FIELDS && n != MAX_FIELDS)
		return 0;
	for (i = 0; i < n; i++)
	{
		size_t		len = strspn(field, "0123456789abcdef");
		char		end = field[len];

		if (len == 0 || len > 16 || end != (i < n - 1 ? '-' : '\0'))
			return 0;
		field[len] = '\0';
		fields[i] = strtoull(field, NULL, 16);
		while (*field == '0' && field[1] != '\0')
			field++;
		strcat(plain, field);
		strcat(plain, i < n - 1 ? "-" : "");
		field += strlen(field) + 1;
	}
	if (fields[0] > PG_UINT32_MAX || fields[1] > PG_UINT32_MAX)
		return 0;
	return n == NUM_FIELDS || (fields[5] != 0 && fields[7] <= 1) ? n : 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t * data, size_t size)
{
	static char plain[256];
	static uint64 fields[MAX_FIELDS];
	int			n = read_plainly((const char *) data, size, plain, fields);
	text	   *arg = palloc(VARHDRSZ + size);
	Receipt		receipt;

	SET_VARSIZE(arg, VARHDRSZ + size);
	memcpy(VARDATA(arg), data, size);
	if (setjmp(fuzz_error) == 0)
	{
		queue_receipt_parse(arg, &receipt);
		REQUIRE(n > 0 && fields[0] == MyDatabaseId);
		REQUIRE(receipt.key.dbid == fields[0]);
		REQUIRE(receipt.key.relid == fields[1]);
		REQUIRE((uint64) receipt.key.id == fields[2]);
		REQUIRE(receipt.epoch == fields[3]);
		REQUIRE(receipt.number == fields[4]);
		REQUIRE((uint64) receipt.message == (n == MAX_FIELDS ? fields[5] : 0));
		REQUIRE((uint64) receipt.after == (n == MAX_FIELDS ? fields[6] : 0));
		REQUIRE(receipt.is_last == (n == MAX_FIELDS && fields[7] == 1));
		REQUIRE(strcmp(queue_receipt_format(&receipt), plain) == 0);
	}
	else
	{
		REQUIRE(fuzz_sqlstate == ERRCODE_QUEUE_INVALID_RECEIPT);
		REQUIRE(n == 0 || fields[0] != MyDatabaseId);
	}
	fuzz_reset();
	return 0;
}
