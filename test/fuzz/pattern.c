/*-------------------------------------------------------------------------
 *
 * pattern.c
 *		Any bytes as a pattern and a routing key.
 *
 * The first newline parts the one from the other.  It is refused if and only if
 * it has a wildcard that is not a whole word; and what matches is what a table
 * of all pairs of words says.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/compat.h"
#include "fuzz.h"
#include "table/pattern.h"

#define MAX_WORDS	1100

typedef struct Words
{
	int			n;
	const char *start[MAX_WORDS];
	int			length[MAX_WORDS];
} Words;

static void
split(const char *text, int length, Words *words)
{
	int			start = 0;

	words->n = 0;
	if (length == 0)
		return;
	for (int i = 0; i <= length; i++)
		if (i == length || text[i] == '.')
		{
			words->start[words->n] = text +start;

			words->length[words->n++] = i - start;
			start = i + 1;
		}
}

static bool
is_word(const Words *words, int i, char wildcard)
{
	return words->length[i] == 1 && words->start[i][0] == wildcard;
}

static bool
is_pattern(const Words *words)
{
	for (int i = 0; i < words->n; i++)
		for (int j = 0; j < words->length[i]; j++)
			if (strchr("*#", words->start[i][j]) != NULL &&
				words->start[i][j] != '\0' && words->length[i] != 1)
				return false;
	return true;
}

/* By what of the key the words of the pattern so far may stand for */
static bool
matches_plainly(const Words *pattern, const Words *key)
{
	static bool reached[MAX_WORDS + 1];

	memset(reached, 0, sizeof(reached));
	reached[0] = true;
	for (int i = 0; i < pattern->n; i++)
	{
		bool		is_many = is_word(pattern, i, '#');

		for (int j = is_many ? 1 : key->n; is_many ? j <= key->n : j > 0;
			 j += is_many ? 1 : -1)
		{
			if (is_many)
				reached[j] |= reached[j - 1];
			else
				reached[j] = reached[j - 1] &&
					(is_word(pattern, i, '*') ||
					 (pattern->length[i] == key->length[j - 1] &&
					  memcmp(pattern->start[i], key->start[j - 1],
							 key->length[j - 1]) == 0));
		}
		if (!is_many)
			reached[0] = false;
	}
	return reached[key->n];
}

int
LLVMFuzzerTestOneInput(const uint8_t * data, size_t size)
{
	const char *text = (const char *) data;
	const char *end = size > 0 ? memchr(text, '\n', size) : NULL;
	int			length = end != NULL ? (int) (end - text) : (int) size;
	int			key_length = end != NULL ? (int) size - length - 1 : 0;
	static Words words;
	static Words key;

	if (size > 1024)
		return 0;
	split(text, length, &words);
	split(text +size - key_length, key_length, &key);
	if (setjmp(fuzz_error) == 0)
	{
		QueuePattern *pattern = queue_pattern_compile(text, length);

		REQUIRE(is_pattern(&words));
		REQUIRE(queue_pattern_match(pattern, text +size - key_length,
									key_length) ==
				matches_plainly(&words, &key));
	}
	else
	{
		REQUIRE(fuzz_sqlstate == ERRCODE_INVALID_PARAMETER_VALUE);
		REQUIRE(!is_pattern(&words));
	}
	fuzz_reset();
	return 0;
}
