/*-------------------------------------------------------------------------
 *
 * index.c
 *		Any name as that of an index which REINDEX has left.
 *
 *-------------------------------------------------------------------------
 */
#include "table/index.c"

#include <regex.h>

#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t * data, size_t size)
{
	static regex_t pattern;
	static bool is_ready = false;
	char	   *name = memcpy(palloc(size + 1), data, size);

	if (!is_ready)
		REQUIRE(regcomp(&pattern, "_cc(new|old)[0-9]*$",
						REG_EXTENDED | REG_NOSUB) == 0);
	is_ready = true;
	name[size] = '\0';
	REQUIRE(is_left_by_reindex(name) ==
			(regexec(&pattern, name, 0, NULL, 0) == 0));
	fuzz_reset();
	return 0;
}
