/*-------------------------------------------------------------------------
 *
 * failure.c
 *		Any texts as those of failures.
 *
 * Each is there again as it was, or cut to the room of a slot between two
 * characters, until a thousand others have come.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/compat.h"
#include "shared/failure.h"
#include "fuzz.h"

#define MAX_NOTED	64

/* The texts are those between zeros in the input. */
int
LLVMFuzzerTestOneInput(const uint8_t * data, size_t size)
{
	static bool is_ready = false;
	FailureNote noted[MAX_NOTED];
	const char *texts[MAX_NOTED];
	char	   *copy = memcpy(palloc(size + 1), data, size);
	const char *text = copy;
	int			n;
	int			i;

	if (!is_ready)
		queue_failure_shmem_init();
	is_ready = true;
	copy[size] = '\0';
	for (n = 0; n < MAX_NOTED && text <=copy + size; n++)
	{
		texts[n] = text;

		noted[n] = queue_failure_note(FAILURE_NACKED, text, n, n / 2, text);
		text	  +=strlen(text) + 1;
	}
	for (i = 0; i < n; i++)
	{
		Failure		found;

		queue_failure_read(&noted[i], &found);
		REQUIRE(found.message != NULL);
		REQUIRE(strlen(found.message) < FAILURE_TEXT_SIZE);
		REQUIRE(strncmp(found.message, texts[i], strlen(found.message)) == 0);
		if (strlen(texts[i]) < FAILURE_TEXT_SIZE)
			REQUIRE(strcmp(found.message, texts[i]) == 0);
		REQUIRE(found.sqlstate == i && found.role == (Oid) (i / 2));
		if (texts[i][0] == '\0')
			REQUIRE(found.application == NULL);
		else if (strlen(texts[i]) < FAILURE_NAME_SIZE)
			REQUIRE(strcmp(found.application, texts[i]) == 0);
	}
	fuzz_reset();
	return 0;
}
