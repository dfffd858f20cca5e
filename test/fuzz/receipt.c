/*-------------------------------------------------------------------------
 *
 * receipt.c
 *		Any text as a receipt.
 *
 * It is read if and only if it has five hexadecimal fields that are not too
 * long, and of this database; what was read is written as it was, but for
 * leading zeros.
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

/*
 * Reads it another way.  Returns false if it is none; then "plain" is
 * undefined, otherwise it is without leading zeros.
 */
static bool
read_plainly(const char *text, size_t size, char *plain, uint64 *fields)
{
	char		copy[256];
	char	   *field = copy;
	int			i;

	if (size >= sizeof(copy) || memchr(text, '\0', size) != NULL)
		return false;
	memcpy(copy, text, size);
	copy[size] = '\0';
	*plain = '\0';
	for (i = 0; i < NUM_FIELDS; i++)
	{
		size_t		len = strspn(field, "0123456789abcdef");
		char		end = field[len];

		if (len == 0 || len > 16 || end != (i < NUM_FIELDS - 1 ? '-' : '\0'))
			return false;
		field[len] = '\0';
		fields[i] = strtoull(field, NULL, 16);
		while (*field == '0' && field[1] != '\0')
			field++;
		strcat(plain, field);
		strcat(plain, i < NUM_FIELDS - 1 ? "-" : "");
		field += strlen(field) + 1;
	}
	return fields[0] <= PG_UINT32_MAX && fields[1] <= PG_UINT32_MAX;
}

int
LLVMFuzzerTestOneInput(const uint8_t * data, size_t size)
{
	static char plain[256];
	static uint64 fields[NUM_FIELDS];
	bool		is_receipt = read_plainly((const char *) data, size, plain,
										  fields);
	text	   *arg = palloc(VARHDRSZ + size);
	Receipt		receipt;

	SET_VARSIZE(arg, VARHDRSZ + size);
	memcpy(VARDATA(arg), data, size);
	if (setjmp(fuzz_error) == 0)
	{
		queue_receipt_parse(arg, &receipt);
		REQUIRE(is_receipt && fields[0] == MyDatabaseId);
		REQUIRE(receipt.key.dbid == fields[0]);
		REQUIRE(receipt.key.relid == fields[1]);
		REQUIRE((uint64) receipt.key.id == fields[2]);
		REQUIRE(receipt.epoch == fields[3]);
		REQUIRE(receipt.number == fields[4]);
		REQUIRE(strcmp(queue_receipt_format(&receipt), plain) == 0);
	}
	else
	{
		REQUIRE(fuzz_sqlstate == ERRCODE_QUEUE_INVALID_RECEIPT);
		REQUIRE(!is_receipt || fields[0] != MyDatabaseId);
	}
	fuzz_reset();
	return 0;
}
