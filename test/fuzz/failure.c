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

/* What a slot of shared/failure.c has room for */
#define ROOM	503

#define MAX_NOTED	64

/* The texts are those between zeros in the input. */
int
LLVMFuzzerTestOneInput(const uint8_t * data, size_t size)
{
	static bool is_ready = false;
	FailureText noted[MAX_NOTED];
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

		noted[n] = queue_failure_note_text(text);
		text	  +=strlen(text) + 1;
	}
	for (i = 0; i < n; i++)
	{
		char	   *found = queue_failure_text(&noted[i]);

		REQUIRE(found != NULL);
		REQUIRE(strlen(found) <= ROOM);
		REQUIRE(strncmp(found, texts[i], strlen(found)) == 0);
		if (strlen(texts[i]) <= ROOM)
			REQUIRE(strcmp(found, texts[i]) == 0);
	}
	fuzz_reset();
	return 0;
}
